"""What kernels compute, read off their TIR, and rewrites of it that schedule primitives cannot express."""

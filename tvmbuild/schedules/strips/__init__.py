"""Strips across layers: a chain of kernels that runs strip by strip, as one PrimFunc."""

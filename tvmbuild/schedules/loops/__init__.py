"""Kernels without products: element-wise, data movement, pooling, reductions, depthwise."""

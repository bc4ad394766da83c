"""Quantized models in integers: what stands in int8, and the kernels that compute with it."""

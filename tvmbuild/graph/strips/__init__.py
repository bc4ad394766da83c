"""Chains of kernels that run strip by strip, so that what one makes for the next stays in the cache."""

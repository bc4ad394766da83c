"""Computes with NumPy, at build time, what depends on constants alone."""

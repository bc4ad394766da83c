"""Activations in NHWC from end to end."""

"""Predictions compared with times that others published of real boards; ``make bench-truth``."""

"""Benchmarks: what ``make bench-kernels`` runs to fill docs/performance.md."""

"""Is what was built right and fast: comparison with ONNX Runtime, timing, and what this machine lacks."""

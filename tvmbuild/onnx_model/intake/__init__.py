"""Reads ONNX files from anywhere, and refuses what is damaged or hostile."""

"""Rewrites of ONNX models into forms that the importer reads rightly."""

"""Model intake: from an ONNX file to a Relax module of fixed shapes."""

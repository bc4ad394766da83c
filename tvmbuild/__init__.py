"""tvmbuild: cross-compile ONNX models into fast, deployable TVM libraries."""

__version__ = "0.1.0"

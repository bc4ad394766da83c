"""tvmbuild: cross-compile ONNX models into fast, deployable TVM libraries."""

import os

__version__ = "0.1.0"

# ONNX Runtime collects events for its maker from 1.32 on, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

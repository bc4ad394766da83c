"""tvmbuild: cross-compile ONNX models into fast, deployable TVM libraries."""

import os

__version__ = "0.1.0"

# ONNX Runtime reports to its maker from 1.32 on; it looks at this when it is imported. Set to 0 to let it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

"""tvmbuild: cross-compile ONNX models into fast, deployable TVM libraries.

The functions here are public and described in docs/api.md; what is not listed in ``__all__`` is private.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmbuild.api import bench, build, inspect, quantize, release, targets, tune, verify
    from tvmbuild.support import errors
    from tvmbuild.support.errors import TvmbuildError
    from tvmbuild.support.versions import __version__
    from tvmbuild.target.target import Target

__all__ = [
    "Target",
    "TvmbuildError",
    "__version__",
    "bench",
    "build",
    "errors",
    "inspect",
    "quantize",
    "release",
    "targets",
    "tune",
    "verify",
]

#: Where each public name is, for the first use of it: `import tvmbuild` alone imports nothing.
_PLACES = {
    **dict.fromkeys(("bench", "build", "inspect", "quantize", "release", "targets", "tune", "verify"), "tvmbuild.api"),
    "Target": "tvmbuild.target.target",
    "TvmbuildError": "tvmbuild.support.errors",
    "__version__": "tvmbuild.support.versions",
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("tvmbuild.support.errors")
    if name not in _PLACES:
        raise AttributeError(f"module 'tvmbuild' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__

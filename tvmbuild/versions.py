"""Versions of the packages that shape an artifact."""

from __future__ import annotations

from importlib import metadata

import tvmbuild

#: Distribution names whose version can change what is built or how it is judged.
PACKAGES = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnxslim", "onnxruntime", "numpy")


def package_versions() -> dict[str, str]:
    """Return the version of tvmbuild and of each of ``PACKAGES``; "missing" where one is not installed."""
    return {"tvmbuild": tvmbuild.__version__, **{name: _version(name) for name in PACKAGES}}


def llvm_version() -> str:
    """Return the version of the LLVM inside TVM; imports tvm."""
    import tvm

    number = int(tvm.target.codegen.llvm_version_major())
    return str(number)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"

"""Versions of the packages that shape an artifact."""

from __future__ import annotations

import json
from importlib import metadata
from urllib.parse import urlsplit

#: Of tvmbuild itself; pyproject.toml has the same.
__version__ = "0.1.0"

#: Distribution names whose version can change what is built or how it is judged.
PACKAGES = ("apache-tvm", "apache-tvm-ffi", "onnx", "onnxslim", "onnxruntime", "numpy")


def package_versions() -> dict[str, str]:
    """Return the version of tvmbuild and of each of ``PACKAGES``; "missing" where one is not installed."""
    return {"tvmbuild": __version__, **{name: _version(name) for name in PACKAGES}}


def installed_from() -> str:
    """Return what pip would install this tvmbuild from again, "" where another machine could not (PEP 610).

    That is a commit of a repository or the address of an archive; not a folder, and no address with a password.
    """
    try:
        record = json.loads(metadata.distribution("tvmbuild").read_text("direct_url.json") or "{}")
        url, commit = str(record.get("url", "")), record.get("vcs_info", {})
        parts = urlsplit(url)
        if parts.scheme not in ("https", "ssh") or parts.password:
            return ""
        return f"{commit['vcs']}+{url}@{commit['commit_id']}" if commit else url
    except (metadata.PackageNotFoundError, ValueError, AttributeError, KeyError, TypeError):
        return ""


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

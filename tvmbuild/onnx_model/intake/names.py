"""Refuse names that could trick a terminal, a shell or a file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import onnx

from tvmbuild.onnx_model import walk
from tvmbuild.support.errors import ModelError

#: Unicode categories of characters that move the cursor, reorder text or have no form.
_UNSAFE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
_LONGEST = 4096


def unsafe_reason(name: str) -> str:
    """Return why a name is refused, or "" for a good one."""
    if len(name) > _LONGEST:
        return f"is {len(name)} characters long"
    for character in name:
        if unicodedata.category(character) in _UNSAFE_CATEGORIES:
            return f"has the control character U+{ord(character):04X}"
    if ".." in re.split(r"[/\\]", name):
        return "climbs out of its folder with '..'"
    return ""


def check_file_name(path: Path) -> None:
    """Refuse a model whose file's name cannot safely become an artifact's name.

    Raises:
        ModelError: the name has control characters.
    """
    reason = unsafe_reason(path.name)
    if reason:
        raise ModelError(f"The file name {path.name!a} {reason}.", "Rename the file.")


def check_names(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a model in which any name is unsafe.

    Raises:
        ModelError: naming the first unsafe name, escaped.
    """
    try:
        for kind, name in _names(proto):
            reason = unsafe_reason(name)
            if reason:
                raise ModelError(
                    f"{path}: the {kind} name {name[:80]!a} {reason}.",
                    "Such names can harm terminals and file systems; rename it in the exporter.",
                )
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} has a name that is not UTF-8: {error}.", "The file is damaged; get it again."
        ) from error


def _names(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for opset in proto.opset_import:
        yield "operator set", opset.domain
    for function in proto.functions:
        yield "function", function.name
    for graph in walk.graphs(proto.graph):
        yield "graph", graph.name
        for value in (*graph.input, *graph.output):
            yield "tensor", value.name
            for dim in value.type.tensor_type.shape.dim:
                yield "dimension", dim.dim_param
        for tensor in graph.initializer:
            yield "tensor", tensor.name
        for node in graph.node:
            yield "node", node.name
            yield "operator", node.op_type
            yield "operator set", node.domain
            for name in (*node.input, *node.output):
                yield "tensor", name

"""Read an ONNX file, and refuse what is damaged or hostile.

Weights that lie in files of their own stay there: the model returned refers to them, so that it always fits into one
protobuf message (2 GiB at most). ``load_external_data`` brings them in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.intake.dtypes import check_dtypes
from tvmbuild.onnx_model.intake.external import ExternalFile, check_external_data, shared_bytes
from tvmbuild.onnx_model.intake.functions import inline_functions
from tvmbuild.onnx_model.intake.names import check_file_name, check_names
from tvmbuild.onnx_model.intake.order import sort_nodes
from tvmbuild.onnx_model.intake.sizes import check_tensor_sizes
from tvmbuild.onnx_model.skeleton import without_weights
from tvmbuild.support.budget import Budget
from tvmbuild.support.errors import ModelError
from tvmbuild.support.paths import is_dir

#: Oldest form of the file that TVM's importer reads (ONNX 1.1).
_OLDEST_IR = 3
#: Bytes of the largest protobuf message.
_LARGEST_FILE = 2**31 - 1


@dataclass(frozen=True)
class OpenedModel:
    """An ONNX file that was read and checked.

    Attributes:
        path: the file.
        sha256: checksum of the file, 64 hex digits.
        proto: its content; tensors in external files are not loaded.
        folder: where the external files lie.
        external: those files, in order of name.
        notes: what was mended while opening, for people.
    """

    path: Path
    sha256: str
    proto: onnx.ModelProto
    folder: Path
    external: tuple[ExternalFile, ...]
    notes: tuple[str, ...]


def open_model(path: Path, budget: Budget | None = None) -> OpenedModel:
    """Read and check an ONNX file; ``budget`` is the default one if not given.

    Raises:
        ModelError: the file is missing, unreadable, damaged, not ONNX, invalid or unsafe.
        UnsupportedOperatorError: it uses a dtype that cannot be compiled.
        LimitError: it would take more nodes, bytes or seconds than the budget has.
    """
    budget = budget or Budget(path)
    check_file_name(path)
    data = _read(path)
    proto = _parse(path, data)
    check_names(path, proto)
    check_tensor_sizes(path, proto)
    external = check_external_data(path, proto)
    budget.check_bytes(shared_bytes(proto, external), "weights that share bytes of their files")
    notes = sort_nodes(path, proto)
    drop_weights_from_inputs(proto)
    _check_rules(path, proto)
    if proto.functions:
        notes += (f"functions inlined: {len(proto.functions)}",)
        proto = inline_functions(proto, budget)
    budget.check_nodes(sum(1 for _ in walk.nodes(proto.graph)), "itself")
    check_dtypes(path, proto)
    drop_unused_weights(proto)
    return OpenedModel(path, hashlib.sha256(data).hexdigest(), proto, path.parent, external, notes)


def load_external_data(opened: OpenedModel, proto: onnx.ModelProto) -> None:
    """Bring the external tensors of ``proto``, made from ``opened.proto``, into memory.

    Raises:
        ModelError: a file vanished or shrank since it was checked.
    """
    if not opened.external:
        return
    try:
        external_data_helper.load_external_data_for_model(proto, str(opened.folder.resolve()))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"The external data of {opened.path} cannot be read: {error}.") from error


def drop_weights_from_inputs(proto: onnx.ModelProto) -> None:
    """Take weights off the list of graph inputs, where models of IR 3 had to name them."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    kept = [value for value in proto.graph.input if value.name not in weights]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    # IR 4 is the first in which a weight need not be an input.
    proto.ir_version = max(proto.ir_version, 4)


def drop_unused_weights(proto: onnx.ModelProto) -> None:
    """Take out weights that nothing reads: every later step pays for them, ONNX Runtime more than in proportion."""
    read = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        read |= walk.outer_reads(node)
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    if len(kept) < len(proto.graph.initializer):
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)


def _read(path: Path) -> bytes:
    if is_dir(path):
        raise ModelError(f"{path} is a folder, not an ONNX file.", "Give the .onnx file inside it.")
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path} is no plain file.", "Save the model as a file and give that.")
        if path.stat().st_size > _LARGEST_FILE:
            raise ModelError(
                f"{path} has {path.stat().st_size} bytes; an ONNX file has at most {_LARGEST_FILE}.",
                "Export the model with external data.",
            )
        return path.read_bytes()
    except FileNotFoundError as error:
        near = sorted(other.name for other in path.parent.glob("*.onnx")) if is_dir(path.parent) else []
        hint = f"ONNX files in {path.parent}: {', '.join(near[:8])}." if near else "Check the path."
        raise ModelError(f"The model {path} does not exist.", hint) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"The model {path} cannot be read: {error}.") from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    hint = "Export or download it again; compare its size and checksum with the source's."
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, UnicodeDecodeError, RuntimeError) as error:
        raise ModelError(
            f"{path} ({len(data)} bytes) is not an ONNX model, or it is truncated: {error}.", hint
        ) from error
    # Some text and many truncated files parse as an empty message.
    if proto.graph.node and proto.opset_import and not proto.graph.output:
        raise ModelError(
            f"{path} has {len(proto.graph.node)} nodes and no output, so that there is nothing to compute.",
            "Export it with the outputs that you want, or add them to graph.output.",
        )
    if not proto.graph.node or not proto.graph.output or not proto.opset_import:
        raise ModelError(f"{path} ({len(data)} bytes) is not an ONNX model, or it is truncated.", hint)
    if proto.ir_version < _OLDEST_IR:
        raise ModelError(
            f"{path} has ONNX IR version {proto.ir_version}; the oldest that can be read is {_OLDEST_IR}.",
            "Export the model again with a newer exporter.",
        )
    if proto.graph.sparse_initializer:
        raise ModelError(
            f"{path} stores weights as sparse tensors ({len(proto.graph.sparse_initializer)} of them).",
            "Export the model with dense weights.",
        )
    return proto


def _check_rules(path: Path, proto: onnx.ModelProto) -> None:
    """Run ONNX's own checker, which needs no weights."""
    skeleton = without_weights(proto)
    for graph in walk.graphs(skeleton.graph):
        for value in (*graph.input, *graph.output):
            if value.type.HasField("tensor_type"):
                # The checker wants a rank; many exporters give none, and nothing here needs it.
                value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(skeleton)
    except onnx.checker.ValidationError as error:
        reason = " ".join(str(error).split())[:500]
        raise ModelError(
            f"{path} is not a valid ONNX model: {reason}",
            "Export the model again; `onnx.checker.check_model` in Python says the same.",
        ) from error

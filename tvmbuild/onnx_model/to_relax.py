"""Import a prepared model into Relax."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from tvmbuild.onnx_model.prepare import PreparedModel
from tvmbuild.support.errors import CompileError
from tvmbuild.support.tvm_log import without_warnings


def to_relax(prepared: PreparedModel) -> Any:
    """Return the ``tvm.IRModule`` of a prepared model: one function ``main`` whose parameters are the model's inputs.

    Parameters and results are in the order of ``prepared.inputs`` and ``prepared.outputs``; weights are constants.
    The parameters' names are made identifiers, so the original ones are to be had from ``prepared`` only.

    Raises:
        CompileError: TVM's importer refuses the model.
    """
    from tvmbuild.onnx_model.importer import Importer

    said = io.StringIO()
    try:
        with _quiet(said):
            return Importer(None, None).from_onnx(prepared.proto.graph, prepared.opset)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        where = said.getvalue().strip().splitlines()[:1]
        raise CompileError(
            f"TVM's importer refuses {prepared.path}: {type(error).__name__}: {reason}"
            + (f" ({where[0][:200]})" if where else ""),
            "Please report it with the model; a simpler export of the operator named may work meanwhile.",
        ) from error


@contextlib.contextmanager
def _quiet(said: io.StringIO) -> Iterator[None]:
    """Keep the importer's warnings (renamed inputs) and its printed errors from the screen."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(said), without_warnings():
        warnings.simplefilter("ignore")
        yield

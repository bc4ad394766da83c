"""Reference outputs from ONNX Runtime, and inputs from a seed."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tvmbuild.onnx_model.exact_sums import with_exact_sums
from tvmbuild.onnx_model.shapes import forget_shapes, set_shape
from tvmbuild.onnx_model.skeleton import weight_bytes, without_weights
from tvmbuild.support.errors import ModelError
from tvmbuild.support.tensor import TensorSpec

#: The variable that switches ONNX Runtime's telemetry off.
TELEMETRY = "ORT_DISABLE_TELEMETRY"
#: Random integers are below this: small enough to be indices into any table of two rows.
_INTEGER_END = 2
#: Weights are handed over outside the protobuf message when they add up to more than this (a message ends at 2 GiB).
_INLINE_BYTES = 1 << 30


def onnx_runtime() -> Any:
    """Return the module ``onnxruntime``, which collects events for its maker from 1.32 on unless told not to.

    It looks at the variable as it is imported, so that a program that uses tvmbuild as a library keeps its environment.
    """
    before = os.environ.get(TELEMETRY)
    os.environ.setdefault(TELEMETRY, "1")
    try:
        return importlib.import_module("onnxruntime")
    finally:
        if before is None:
            os.environ.pop(TELEMETRY, None)


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> dict[str, np.ndarray]:
    """Return one array an input, the same for the same specs and seed.

    Floats are uniform in [-1, 1), integers 0 or 1, booleans either.
    """
    rng = np.random.default_rng(seed)
    return {spec.name: _random(spec, rng) for spec in specs}


def _random(spec: TensorSpec, rng: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(spec.dtype) if spec.dtype != "bfloat16" else np.dtype(np.float32)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, spec.shape)).astype(dtype)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, _INTEGER_END, spec.shape)).astype(dtype)
    return np.asarray(rng.uniform(-1.0, 1.0, spec.shape)).astype(dtype)


def run_reference(
    model: Path | onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] | None = None,
    *,
    folder: Path | None = None,
    threads: int = 0,
) -> dict[str, np.ndarray]:
    """Run a model in ONNX Runtime and return the outputs by name, in the model's order.

    Each operator computes just what ONNX says, on every CPU (see ``reference_session``). The inputs may have other
    shapes than the model declares. What ONNX Runtime has no kernel for (opsets before 7) runs in onnx's own evaluator.

    Args:
        model: a file, or a model in memory of any size.
        inputs: an array by input's name.
        outputs: names of tensors to compute, of outputs or from inside the graph; all outputs by default.
        folder: where the external data of a model in memory lies.
        threads: number of threads; 0 lets ONNX Runtime choose.

    Raises:
        ModelError: ONNX Runtime refuses the model or the inputs.
    """
    with _errors():
        if isinstance(model, Path):
            model, folder = onnx.load(model, load_external_data=False), model.parent
        model = with_shapes(model, inputs, outputs)
        names = [output.name for output in model.graph.output]
        given = {value.name: inputs[value.name] for value in model.graph.input if value.name in inputs}
        try:
            results = reference_session(model, folder=folder, threads=threads).run(names, given)
        except Exception as error:
            if type(error).__name__ != "NotImplemented":
                raise
            results = _evaluate(model, folder, given)
    return dict(zip(names, results, strict=True))


def _evaluate(model: onnx.ModelProto, folder: Path | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Run a model in onnx's own evaluator, which is slow and knows every version of an operator."""
    from onnx.reference import ReferenceEvaluator

    loaded = onnx.ModelProto()
    loaded.CopyFrom(model)
    if folder is not None:
        onnx.external_data_helper.load_external_data_for_model(loaded, str(folder.resolve()))
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(loaded).run(None, dict(inputs))
    return [np.asarray(result) for result in results]


def with_shapes(
    model: onnx.ModelProto, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] | None = None
) -> onnx.ModelProto:
    """Return the model as it is for these inputs and outputs.

    The one given is returned where it needs no change, and is never changed itself. The shapes of tensors inside are
    dropped with those of the inputs, for ONNX Runtime to find out anew.
    """
    declared = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.input}
    reshaped = [name for name, array in inputs.items() if name in declared and declared[name] != list(array.shape)]
    if not reshaped and outputs is None:
        return model
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    if reshaped:
        for value in shaped.graph.input:
            if value.name in inputs:
                set_shape(value, inputs[value.name].shape)
        forget_shapes(shaped)
    if outputs is not None:
        del shaped.graph.output[:]
        shaped.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    return shaped


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn ONNX Runtime's exceptions, which share no base of their own, into ModelError."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise ModelError(_reason(error)) from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            raise ModelError(_reason(error)) from error
        raise


def _reason(error: Exception) -> str:
    return f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:400]}"


def reference_session(
    model: onnx.ModelProto, *, folder: Path | None = None, threads: int = 0, arena: bool = True
) -> Any:
    """Return the session of ONNX Runtime that every reference comes from.

    Graph optimizations are off, so that each operator computes just what ONNX says, and integer products are summed
    exactly whatever the CPU (see ``onnx_model.exact_sums``).

    Args:
        model: of any size.
        folder: where its external data lies.
        threads: number of threads; 0 lets ONNX Runtime choose.
        arena: whether memory that a run needed is kept for the next one.

    Raises:
        Exception: of ONNX Runtime, which refuses the model.
    """
    onnxruntime = onnx_runtime()

    model = with_exact_sums(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.enable_cpu_mem_arena = arena
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    # The arrays must outlive the session's construction, hence the name.
    message, arrays = (model, []) if weight_bytes(model) <= _INLINE_BYTES else _detached(model, options)
    session = onnxruntime.InferenceSession(message.SerializeToString(), options, providers=["CPUExecutionProvider"])
    del arrays
    return session


def _detached(model: onnx.ModelProto, options: Any) -> tuple[onnx.ModelProto, list[Any]]:
    """Return the model with its large weights declared external, and hand those to ``options`` as they are."""
    onnxruntime = onnx_runtime()

    skeleton = without_weights(model)
    moved = {value.name for value in skeleton.graph.input} - {value.name for value in model.graph.input}
    kept = [value for value in skeleton.graph.input if value.name not in moved]
    del skeleton.graph.input[:]
    skeleton.graph.input.extend(kept)
    names, values = [], []
    for tensor in model.graph.initializer:
        if tensor.name in moved:
            declared = skeleton.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, data_location=onnx.TensorProto.EXTERNAL
            )
            declared.external_data.add(key="location", value="in-memory")
            names.append(tensor.name)
            values.append(onnxruntime.OrtValue.ortvalue_from_numpy(onnx.numpy_helper.to_array(tensor)))
    options.add_external_initializers(names, values)
    return skeleton, values

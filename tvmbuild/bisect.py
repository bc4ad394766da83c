"""Find the first layer of an artifact that differs from ONNX Runtime.

Layers are the prepared model's tensors in topological order. Each round exposes some of them as outputs, evenly spread
over the span that is still open, builds that truncated model with the same options, and runs it on the same device.
The span shrinks by the number of probes each round, so a model of 300 layers takes three builds. Exposing a tensor
ends fusion and a chain of strips there: a fault that needs two operators fused can vanish, and the search then says so.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild.artifact.open import Artifact, open_artifact
from tvmbuild.checking.difference import OutputDifference, difference
from tvmbuild.checking.samples import load_samples
from tvmbuild.checking.verify import frozen_values, own_tolerance, precision_of, target_of, weights_of
from tvmbuild.device.protocol import Device, RunRequest
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.support import progress
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.support.weights import Prefer
from tvmbuild.target.target import Target

#: Tensors exposed in one round.
PROBES = 8


@dataclass(frozen=True)
class FirstDifference:
    """The first layer whose output differs, and by how much; ``node`` is None when no single layer could be blamed."""

    node: str | None
    operator: str
    output: OutputDifference | None
    builds: int

    def __str__(self) -> str:
        """Return one line for people."""
        if self.node is None or self.output is None:
            return (
                "none: every layer agrees when it is an output of its own, so the fault needs operators that are fused "
                "together or run strip by strip; build with --no-strips, or with --dump-ir and look at the kernels of "
                "the last layers"
            )
        return f"{self.operator} '{self.node}': {self.output}"


@dataclass(frozen=True)
class _Layer:
    node: str
    operator: str
    spec: TensorSpec


def first_difference(artifact: Artifact, model: Path, device: Device, options: VerifyOptions) -> FirstDifference:
    """Search the first layer that differs, on the first sample of ``options``.

    Raises:
        TvmbuildError: whatever a build or a run can raise.
    """
    from tvmbuild.onnx_model.prepare import prepare
    from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
    from tvmbuild.support.budget import parse_limits

    told = artifact.manifest.options
    alike = BuildOptions(
        name="part",
        compare=False,
        strips=bool(told.get("strips", False)),
        precision=precision_of(artifact),
        weights=weights_of(artifact),
        prefer=Prefer(told.get("prefer", Prefer.SPEED)),
    )
    shapes, values = parse_shapes(told["shape"]), parse_values(told["value"])
    prepared = prepare(model, shapes, values, compare=False, limits=parse_limits(options.limit))
    sample = load_samples(artifact.manifest.inputs, options.inputs, count=1, seed=options.seed)[0]
    layers = _layers(prepared.proto)
    low, high, worst, builds = 0, len(layers), None, 0
    with progress.stage("find the first layer that differs") as step:
        while low < high:
            probed = sorted({low + (high - low) * k // PROBES for k in range(PROBES)} | {high - 1})
            found = _compare_layers(
                prepared.proto, [layers[i] for i in probed], sample, target_of(artifact), device, options, alike
            )
            builds += 1
            bad = next((k for k, item in enumerate(found) if not item.passed), None)
            if bad is None:
                low = high
                break
            high, worst = probed[bad], found[bad]
            low = probed[bad - 1] + 1 if bad else low
            step.advance(detail=f"{builds} builds, {high - low} layers left")
    if worst is None:
        return FirstDifference(None, "", None, builds)
    return FirstDifference(layers[high].node, layers[high].operator, worst, builds)


def _layers(proto: Any) -> list[_Layer]:
    """Return every tensor with a known static shape, in topological order, with the node that makes it."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    shapes: dict[str, TensorSpec] = {}
    for value in [*inferred.graph.value_info, *inferred.graph.output]:
        kind = value.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else -1 for size in kind.shape.dim]
        if kind.elem_type and -1 not in sizes:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)).name
            shapes[value.name] = TensorSpec(value.name, dtype, tuple(sizes))
    return [
        _Layer(node.name or name, node.op_type, shapes[name])
        for node in proto.graph.node
        for name in node.output
        if name in shapes
    ]


def _compare_layers(
    proto: Any,
    layers: Sequence[_Layer],
    sample: Mapping[str, np.ndarray],
    target: Target,
    device: Device,
    options: VerifyOptions,
    alike: BuildOptions,
) -> list[OutputDifference]:
    import onnx

    from tvmbuild.pipeline import build

    names = [layer.spec.name for layer in layers]
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(proto, data_prop=True))
    kept = [value.name for value in proto.graph.input]
    part = extractor.extract_model(kept, names)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-") as scratch:
        path = Path(scratch) / "part.onnx"
        onnx.save(part, path)
        result = build(path, target, dataclasses.replace(alike, output=Path(scratch)))
        opened = open_artifact(Path(scratch) / "part.json")
        wanted = {spec.name: sample[spec.name] for spec in result.manifest.inputs}
        reference = run_reference(path, {**wanted, **frozen_values(opened)})
        run = device.run(
            RunRequest(opened.library, list(wanted.values()), threads=options.threads or None, timeout=options.timeout)
        )
    outputs = dict(zip((spec.name for spec in result.manifest.outputs), run.outputs, strict=True))
    return [
        difference(layer.spec, reference[n], outputs[n], options.tolerance or own_tolerance(opened, layer.spec))
        for n, layer in zip(names, layers, strict=True)
    ]

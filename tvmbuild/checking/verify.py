"""Compare an artifact with ONNX Runtime on the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking import int8_rounding, weight_rounding
from tvmbuild.checking.difference import DEFAULT_TOLERANCE, EXACT, NEARLY_ZERO, OutputDifference, difference, rms_ratio
from tvmbuild.checking.samples import load_samples
from tvmbuild.device.protocol import Device, RunRequest
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.rounding import Rounding
from tvmbuild.support import progress
from tvmbuild.support.border import Border
from tvmbuild.support.errors import ArtifactError, DeviceError, InputDataError, VerificationError
from tvmbuild.support.options import VerifyOptions
from tvmbuild.support.paths import is_file
from tvmbuild.support.precision import Precision
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.support.weights import Weights
from tvmbuild.target.target import Target

#: Largest difference allowed by default for outputs of a model that rounds to codes of 8 bits, where single values are
#: compared: one layer, or the same kernels again; codes of other bits may differ by as many steps. Whole models are
#: judged as ``int8_rounding`` says.
INT8_TOLERANCE = 0.1
#: Outputs of these types are codes where a model rounds to codes.
_CODES = ("int8", "uint8", "int16", "uint16")
#: Outputs named in the error of a failed comparison.
WORST_SHOWN = 3


@dataclass(frozen=True)
class Verification:
    """The outcome of a comparison: one entry an output, and what the run took on the device."""

    outputs: tuple[OutputDifference, ...]
    samples: int
    device: str
    seconds: tuple[float, ...]
    peak_bytes: int

    @property
    def passed(self) -> bool:
        """Whether every output is within its tolerance."""
        return all(output.passed for output in self.outputs)

    def to_json(self) -> dict[str, Any]:
        """Return what ``verify --json`` prints."""
        outputs = [{**asdict(output), "relative": output.relative, "passed": output.passed} for output in self.outputs]
        return {**asdict(self), "outputs": outputs, "passed": self.passed}


def require_passed(outcome: Verification, details: Mapping[str, Any] | None = None) -> None:
    """Raise unless every output is within its tolerance.

    Raises:
        VerificationError: names the worst outputs, worst first.
    """
    failed = sorted((o for o in outcome.outputs if not o.passed), key=lambda o: -o.excess)
    if failed:
        shown = "; ".join(str(output) for output in failed[:WORST_SHOWN])
        more = f"; and {len(failed) - WORST_SHOWN} more" if len(failed) > WORST_SHOWN else ""
        raise VerificationError(
            f"{len(failed)} of {len(outcome.outputs)} outputs differ from ONNX Runtime on {outcome.device}. "
            f"{shown}{more}.",
            _hint(failed),
            details,
        )


def _hint(failed: Sequence[OutputDifference]) -> str:
    if all(output.largest_reference < NEARLY_ZERO for output in failed):
        return (
            "The reference itself is nearly zero on these inputs, so that rounding is all there is to compare: "
            "give real inputs with --inputs."
        )
    return "Add --bisect to find the first layer that differs, or set --tolerance where the model is this sensitive."


def target_of(artifact: Artifact) -> Target:
    """Return the target that an artifact was built for, as its manifest has it.

    Raises:
        ArtifactError: the manifest's target lacks a field, or has one of another type or form.
    """
    return _BORDER.checked(artifact.manifest.target, Target, f"of {artifact.manifest.name}, target", closed=False)


_BORDER = Border("The manifest", ArtifactError, "Build the artifact again with 'tvmbuild build'.")


def verify(artifact: Artifact, model: Path, device: Device, options: VerifyOptions) -> Verification:
    """Run the same inputs through ONNX Runtime and the artifact.

    Args:
        artifact: what was built.
        model: the ONNX file it was built from.
        device: where to run it.
        options: inputs, tolerance and limits.

    Raises:
        ArtifactError: the artifact was built from another model.
        InputDataError: the sample inputs cannot be read or do not fit.
        DeviceError: the run failed or gave outputs of another shape.
    """
    manifest = artifact.manifest
    check_same_model(artifact, model)
    frozen = frozen_values(artifact)
    allowed = [options.tolerance or own_tolerance(artifact, spec) for spec in manifest.outputs]
    rounding = rounding_in(artifact)
    least = max(int8_rounding.LEAST * rounding.step, _float_tolerance(artifact))
    samples = load_samples(manifest.inputs, options.inputs, count=options.samples, seed=options.seed)
    worst: dict[str, OutputDifference] = {}
    seconds: list[float] = []
    peak = 0
    with progress.stage(f"compare with ONNX Runtime on {device.name}", total=len(samples)) as step:
        for sample in samples:
            reference = run_reference(model, {**sample, **frozen})
            result = device.run(
                RunRequest(
                    artifact.library,
                    [sample[spec.name] for spec in manifest.inputs],
                    threads=options.threads or None,
                    timeout=options.timeout,
                )
            )
            seconds += result.seconds
            peak = max(peak, result.peak_bytes)
            found = _differences(manifest.outputs, reference, result.outputs, allowed)
            if rounding.code_bits and not options.tolerance:
                again = _nudged_reference(model, sample, frozen, options.seed)
                found = [
                    _by_rms(each, reference[each.spec.name], actual, again[each.spec.name], least)
                    for each, actual in zip(found, result.outputs, strict=True)
                ]
            elif weights_of(artifact).halves and not options.tolerance:
                moved = weight_rounding.changed_references(model, {**sample, **frozen}, options.seed)
                found = [
                    _by_weights(each, reference[each.spec.name], *(outputs[each.spec.name] for outputs in moved))
                    for each in found
                ]
            for each in found:
                before = worst.get(each.spec.name)
                if before is None or each.excess > before.excess:
                    worst[each.spec.name] = each
            step.advance()
    return Verification(tuple(worst.values()), len(samples), device.name, tuple(seconds), peak)


def _nudged_reference(
    model: Path, sample: Mapping[str, np.ndarray], frozen: Mapping[str, np.ndarray], seed: int
) -> dict[str, np.ndarray]:
    """Return the outputs of ONNX Runtime with scales and inputs changed by a millionth."""
    changed = int8_rounding.nudged_model(onnx.load(model, load_external_data=False), seed)
    inputs = {**int8_rounding.nudged_inputs(sample, seed), **frozen}
    return run_reference(changed, inputs, folder=model.parent)


def _by_rms(
    found: OutputDifference,
    reference: np.ndarray,
    actual: np.ndarray,
    nudged_reference: np.ndarray,
    least: float,
) -> OutputDifference:
    """Judge an output of an int8 model by its root mean square; integers other than codes stay exact."""
    if found.tolerance == EXACT:
        return found
    tolerance = int8_rounding.allowed(reference, nudged_reference, least)
    return replace(found, rms=rms_ratio(reference, actual), tolerance=tolerance)


def _by_weights(found: OutputDifference, reference: np.ndarray, *changed: np.ndarray) -> OutputDifference:
    """Allow an output of a model with float16 weights what changed weights do to it; integers stay exact."""
    if found.tolerance == EXACT:
        return found
    return replace(found, tolerance=weight_rounding.allowed(found, reference, *changed))


def own_tolerance(artifact: Artifact, spec: TensorSpec) -> float:
    """Return the default tolerance of an artifact's output, by its dtype and the precision it is computed in."""
    tolerance, rounding = DEFAULT_TOLERANCE.get(spec.dtype, EXACT), rounding_in(artifact)
    if tolerance:
        tolerance = max(tolerance, _float_tolerance(artifact))
    if tolerance or (rounding.code_bits and spec.dtype in _CODES):
        tolerance = max(tolerance, INT8_TOLERANCE * rounding.step)
    return tolerance


def _float_tolerance(artifact: Artifact) -> float:
    """Return what rounding real numbers adds: the build's precision, its weights', or half precision in the model."""
    model = Precision.FP16.tolerance if rounding_in(artifact).half else 0.0
    return max(precision_of(artifact).tolerance, weights_of(artifact).tolerance, model)


def precision_of(artifact: Artifact) -> Precision:
    """Return the precision that an artifact was built in."""
    return Precision(artifact.manifest.options.get("precision", Precision.FP32))


def weights_of(artifact: Artifact) -> Weights:
    """Return the form of an artifact's weights: float32 where no layer is stored otherwise."""
    manifest = artifact.manifest
    halves = manifest.fusion.get("weights", {}).get("half_layers", 0)
    return Weights(manifest.options.get("weights", Weights.FP16)) if halves else Weights.FP32


def rounding_in(artifact: Artifact) -> Rounding:
    """Return what the values of an artifact's model are rounded to.

    Manifests of before it was kept there tell it of integer kernels alone.
    """
    told = artifact.manifest.model.get("rounding")
    if told is None:
        return Rounding(code_bits=8 if artifact.manifest.fusion.get("int8", {}).get("int8") else 0)
    try:
        return Rounding(int(told["code_bits"]), bool(told["half"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"The manifest of {artifact.manifest.name} has no usable rounding ({error}).", _REBUILD
        ) from error


def _differences(
    specs: Sequence[TensorSpec],
    reference: Mapping[str, np.ndarray],
    outputs: Sequence[np.ndarray],
    allowed: Sequence[float],
) -> list[OutputDifference]:
    if len(outputs) != len(specs):
        raise DeviceError(f"The library gave {len(outputs)} outputs; its manifest lists {len(specs)}.", _REBUILD)
    found = []
    for spec, actual, tolerance in zip(specs, outputs, allowed, strict=True):
        expected = np.asarray(reference[spec.name])
        if expected.shape != actual.shape:
            raise DeviceError(
                f"Output '{spec.name}' has shape {actual.shape} on the device and {expected.shape} in ONNX Runtime.",
                _REBUILD,
            )
        found.append(difference(spec, expected, actual, tolerance))
    return found


_REBUILD = "Build the artifact again with 'tvmbuild build'; if it stays, this is a bug in tvmbuild."


def check_same_model(artifact: Artifact, model: Path) -> None:
    """Check that an artifact was built from a model.

    Raises:
        InputDataError: there is no such file.
        ArtifactError: it is another model.
    """
    if not is_file(model):
        raise InputDataError(
            f"The model {model} does not exist.", "Give the ONNX file that the artifact was built from."
        )
    if sha256_of(model) != artifact.manifest.model["sha256"]:
        raise ArtifactError(
            f"{artifact.manifest.name} was built from another model than {model} (the SHA-256 differs).",
            f"Give {artifact.manifest.model['file']} as it was, or build this model.",
        )


def frozen_values(artifact: Artifact) -> dict[str, np.ndarray]:
    """Return the inputs that the build froze to a constant, by ONNX name; the reference needs them too."""
    frozen = artifact.manifest.model.get("frozen", {})
    return {name: np.array(item["value"], dtype=item["dtype"]) for name, item in frozen.items()}

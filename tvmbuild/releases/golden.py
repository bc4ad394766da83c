"""Golden inputs and outputs: what a bundle replays on its board.

The outputs are those of the model's own kernels on the emulated core, so they are the same wherever the bundle is made;
ONNX Runtime's depend on the machine. Each library has its own: int8 models of two boards may differ in the layers that
stay in float. Libraries of the same model are compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.difference import difference
from tvmbuild.checking.samples import load_samples
from tvmbuild.checking.verify import own_tolerance, target_of
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.releases.templates import GOLDEN, golden_folder
from tvmbuild.support.errors import DeviceError, VerificationError


@dataclass(frozen=True)
class GoldenOutput:
    """What one output of a library has to be.

    Attributes:
        path: of its .npy file in the bundle.
        tolerance: allowed difference, relative to its largest value: that of ``verify``, as a board's libm may round
            otherwise than the emulated one.
    """

    path: str
    tolerance: float


def write_golden(artifacts: Sequence[Artifact], folder: Path, seed: int = 0) -> list[list[GoldenOutput]]:
    """Run each library on seeded random inputs; write ``input_<n>.npy``, and ``output_<n>.npy`` for each.

    Args:
        artifacts: libraries with the same inputs and outputs.
        folder: of the bundle.
        seed: seed of the inputs.

    Returns:
        The outputs of each artifact.

    Raises:
        DeviceError: a run failed, or gave another number of outputs than the manifest lists.
        VerificationError: two libraries of the same model differ by more than the tolerance.
    """
    sample = load_samples(artifacts[0].manifest.inputs, None, seed=seed)[0]
    inputs = [sample[spec.name] for spec in artifacts[0].manifest.inputs]
    _save(inputs, folder / GOLDEN, "input")
    names = [artifact.manifest.name for artifact in artifacts]
    firsts: dict[str, tuple[Artifact, Sequence[NDArray[Any]]]] = {}
    golden = []
    for artifact in artifacts:
        outputs = _run(artifact, inputs)
        first, expected = firsts.setdefault(artifact.manifest.model["sha256"], (artifact, outputs))
        _check_same(first, artifact, expected, outputs)
        place = golden_folder(names, artifact.manifest.name)
        _save(outputs, folder / place, "output")
        golden.append(
            [
                GoldenOutput(f"{place}/output_{index}.npy", own_tolerance(artifact, spec))
                for index, spec in enumerate(artifact.manifest.outputs)
            ]
        )
    return golden


def _save(arrays: Sequence[NDArray[Any]], folder: Path, word: str) -> None:
    folder.mkdir(exist_ok=True)
    for index, array in enumerate(arrays):
        np.save(folder / f"{word}_{index}.npy", np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)


def _run(artifact: Artifact, inputs: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
    manifest = artifact.manifest
    request = RunRequest(artifact.library, inputs, threads=1)
    outputs = open_device("auto", target_of(artifact)).run(request).outputs
    if len(outputs) != len(manifest.outputs):
        raise DeviceError(
            f"{manifest.name} gave {len(outputs)} outputs; its manifest lists {len(manifest.outputs)}.",
            "Build the artifact again.",
        )
    return outputs


def _check_same(
    first: Artifact, other: Artifact, expected: Sequence[NDArray[Any]], given: Sequence[NDArray[Any]]
) -> None:
    for spec, a, b in zip(other.manifest.outputs, expected, given, strict=True):
        found = difference(spec, a, b, own_tolerance(other, spec))
        if not found.passed:
            raise VerificationError(
                f"{other.manifest.name} gives other outputs than {first.manifest.name}: {found}.",
                "Verify both against the model: tvmbuild verify.",
            )

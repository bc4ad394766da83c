"""Golden inputs and outputs: what a bundle replays on its board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmbuild.artifact.open import Artifact
from tvmbuild.device.protocol import Device
from tvmbuild.difference import difference
from tvmbuild.errors import DeviceError, VerificationError
from tvmbuild.samples import load_samples
from tvmbuild.verify import own_tolerance


def write_golden(artifact: Artifact, device: Device, folder: Path, seed: int = 0) -> list[float]:
    """Run a model on seeded random inputs and write ``input_<n>.npy`` and ``output_<n>.npy``.

    The outputs are those of the model's own kernels on the emulated core, so they are the same wherever the bundle is
    made; ONNX Runtime's depend on the machine. The tolerance is that of ``verify``: a board's libm may round otherwise.

    Args:
        artifact: what was built.
        device: where to run it.
        folder: where to write; it must exist.
        seed: seed of the inputs.

    Returns:
        The tolerance of each output, relative to its largest value.

    Raises:
        DeviceError: the run failed, or gave another number of outputs than the manifest lists.
    """
    manifest = artifact.manifest
    sample = load_samples(manifest.inputs, None, seed=seed)[0]
    inputs = [sample[spec.name] for spec in manifest.inputs]
    for word, arrays in (("input", inputs), ("output", _outputs(artifact, device, inputs))):
        for index, array in enumerate(arrays):
            np.save(
                folder / f"{word}_{index}.npy", np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False
            )
    return [own_tolerance(artifact, spec) for spec in manifest.outputs]


def check_golden(artifact: Artifact, device: Device, folder: Path, tolerances: Sequence[float]) -> None:
    """Run a model on the golden inputs and compare, as the selftest does on the board.

    Args:
        artifact: the same model as that of ``write_golden``, built for another board.
        device: where to run it.
        folder: what ``write_golden`` wrote.
        tolerances: what it returned.

    Raises:
        VerificationError: an output differs by more than its tolerance.
        DeviceError: as ``write_golden``.
    """
    manifest = artifact.manifest
    inputs = [np.load(folder / f"input_{index}.npy") for index in range(len(manifest.inputs))]
    for index, (spec, output) in enumerate(zip(manifest.outputs, _outputs(artifact, device, inputs), strict=True)):
        # A tolerance of 0 stands for the default of exact types, which is 0.
        found = difference(spec, np.load(folder / f"output_{index}.npy"), output, tolerances[index])
        if not found.passed:
            raise VerificationError(
                f"{manifest.name} gives other outputs than the bundle's golden ones: {found}.",
                "Bundle each board alone, and verify each against the model.",
            )


def _outputs(artifact: Artifact, device: Device, inputs: Sequence[np.ndarray[Any, Any]]) -> Sequence[NDArray[Any]]:
    manifest = artifact.manifest
    outputs = device.run(artifact.library, inputs, threads=1).outputs
    if len(outputs) != len(manifest.outputs):
        raise DeviceError(
            f"{manifest.name} gave {len(outputs)} outputs; its manifest lists {len(manifest.outputs)}.",
            "Build the artifact again.",
        )
    return outputs

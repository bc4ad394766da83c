"""Golden inputs and outputs: what a bundle replays on its board."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tvmbuild.artifact.open import Artifact
from tvmbuild.device.protocol import Device
from tvmbuild.errors import DeviceError
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
    result = device.run(artifact.library, inputs, threads=1)
    if len(result.outputs) != len(manifest.outputs):
        raise DeviceError(
            f"{manifest.name} gave {len(result.outputs)} outputs; its manifest lists {len(manifest.outputs)}.",
            "Build the artifact again.",
        )
    for word, arrays in (("input", inputs), ("output", result.outputs)):
        for index, array in enumerate(arrays):
            np.save(
                folder / f"{word}_{index}.npy", np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False
            )
    return [own_tolerance(artifact, spec) for spec in manifest.outputs]

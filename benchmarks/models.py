"""The models that are measured: real ones, and well-known structures with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.mobilenet_v2 import mobilenet_v2
from devtools.light import light_model
from devtools.zoo import fetch, load_catalogue, model_file

SEED = 0
#: Those of the onnx package that are timed on this machine; each takes a picture of 224 by 224.
LIGHT = ("resnet50", "squeezenet", "densenet121", "shufflenet")
MOBILENET = "mobilenet_v2"
#: Those whose cycles are predicted, and whose build is measured.
PREDICTED = ("squeezenet", "resnet50")


@dataclass(frozen=True)
class BenchModel:
    """A model on disk and what building it takes.

    Attributes:
        name: short name.
        path: the ONNX file.
        shapes: values for ``--shape``.
        values: values for ``--value``.
    """

    name: str
    path: Path
    shapes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def all_names() -> list[str]:
    """Return every name that ``model`` takes: the real models first."""
    return [*load_catalogue().models, *LIGHT, MOBILENET]


def model(name: str, folder: Path) -> BenchModel:
    """Return a model, after writing or downloading it into ``folder`` where it is not there yet.

    Raises:
        FetchError: an unknown name, or a download failed.
    """
    catalogue = load_catalogue()
    if name in catalogue.models:
        entry = catalogue.models[name]
        fetch(folder, names=[name])
        return BenchModel(name, model_file(entry, folder), entry.shapes, entry.values)
    path = folder / "models" / f"{name}.onnx"
    if not path.is_file():
        proto = mobilenet_v2(SEED) if name == MOBILENET else light_model(name, SEED)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        onnx.save(proto, aside)
        aside.replace(path)
    return BenchModel(name, path)

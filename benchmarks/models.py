"""The models that are measured: real ones, and well-known structures with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from devtools.classifiers import NETWORKS, classifier
from devtools.light import LIGHT_MODELS, light_model
from devtools.zoo import fetch, load_catalogue, model_file
from tvmbuild.quantization.quantizer import quantize_model
from tvmbuild.support.options import QuantizeOptions
from tvmbuild.target.target import load_target

SEED = 0
#: Those of the onnx package that are timed on this machine; each takes a picture of 224 by 224.
LIGHT = ("resnet50", "squeezenet", "densenet121", "shufflenet")
MOBILENET = "mobilenet_v2"
#: Those that are predicted for all cores of a board, beside what others need.
ON_BOARDS = ("squeezenet", "mobilenet_v1", MOBILENET, "mobilenet_v3_large", "resnet18", "resnet50", "efficientnet_b0")
#: Of those, the ones that are predicted in int8 too.
INTEGER = ("resnet50", "mobilenet_v1")
#: Samples that calibrate an int8 model.
SAMPLES = 8
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
    """Return every model that is measured: the real ones first."""
    others = (name for name in ON_BOARDS if name not in LIGHT)
    return [*load_catalogue().models, *LIGHT, *others]


def host_names() -> list[str]:
    """Return those that are timed on this machine."""
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
        make = classifier if name in NETWORKS and name not in LIGHT_MODELS else light_model
        proto = make(name, SEED)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        onnx.save(proto, aside)
        aside.replace(path)
    return BenchModel(name, path)


def quantized(subject: BenchModel, folder: Path, target: str | None) -> tuple[BenchModel, int]:
    """Quantize a model of pictures of 224 by 224 from random samples.

    Args:
        subject: the float model.
        folder: receives the int8 one.
        target: a board: layers stay in float that int8 slows down there; None quantizes for any core.

    Returns:
        The model, and how many layers stayed in float because int8 is slower on the target; 0 without a target.
    """
    samples = np.random.default_rng(SEED).standard_normal((SAMPLES, 1, 3, 224, 224)).astype(np.float32)
    options = QuantizeOptions(calibrate_mode="max", shape=subject.shapes)
    done = quantize_model(subject.path, list(samples), options, target=load_target(target) if target else None)
    name = f"{subject.name}.{target or 'any'}.int8"
    path = folder / f"{name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    done.save(path)
    return BenchModel(name, path), len(done.report.kept)

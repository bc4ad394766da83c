"""Every reader, given anything: the answer is a value or an error of the reader's own class, never another exception.

Half of the bytes are mutations of a good file, so that they come further than the first check.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_artifact import MANIFEST

from devtools.zoo import load_catalogue
from tvmbuild.artifact.manifest import read_manifest
from tvmbuild.artifact.open import open_artifacts
from tvmbuild.checking.samples import load_samples
from tvmbuild.predict.llvm import parse_costs
from tvmbuild.quantization.calibration.image import ImageRecipe, load_recipe
from tvmbuild.quantization.calibration.sources import find_samples
from tvmbuild.quantization.calibration.table import read_table
from tvmbuild.releases.notes import read_report
from tvmbuild.releases.plan import read_plan
from tvmbuild.releases.signing import load_signer, load_verifier
from tvmbuild.support.errors import (
    ArtifactError,
    CalibrationError,
    FetchError,
    InputDataError,
    OptionError,
    TargetError,
    ToolchainError,
    TvmbuildError,
)
from tvmbuild.support.options import (
    BenchOptions,
    BuildOptions,
    CacheOptions,
    DeviceOptions,
    QuantizeOptions,
    TuneOptions,
    VerifyOptions,
)
from tvmbuild.support.resolve import read_project_file, resolve
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.target.target import load_target, targets_folder

#: Of each reader; all of them together take less than a minute on two cores.
EXAMPLES = 60
SPEC = TensorSpec("x", "float32", (1, 3, 4, 4))


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(SPEC.shape, np.float32))
    return stream.getvalue()


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.zeros(SPEC.shape, np.float32), more=np.arange(3))
    return stream.getvalue()


def picture(form: str, mode: str = "RGB") -> Callable[[], bytes]:
    def made() -> bytes:
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
        image = Image.fromarray(noise).convert(mode)
        image.save(stream, form, **({} if form == "BMP" else {"exif": exif}))
        return stream.getvalue()

    return made


def tensor() -> bytes:
    return bytes(onnx.numpy_helper.from_array(np.zeros(SPEC.shape, np.float32)).SerializeToString())


def read_test_data(path: Path) -> object:
    folder = path.with_name("test_data_set_0")
    folder.mkdir(exist_ok=True)
    (folder / "input_0.pb").write_bytes(path.read_bytes())
    return find_samples(folder, (SPEC,), ImageRecipe())[0].load()


def read_calibration(path: Path) -> object:
    return [ref.load() for ref in find_samples(path, (SPEC,), ImageRecipe(resize="pad"))]


def as_project(path: Path) -> Path:
    (path.parent / "tvmbuild.toml").write_bytes(path.read_bytes())
    return path.parent


KINDS = {
    "build": BuildOptions,
    "tune": TuneOptions,
    "quantize": QuantizeOptions,
    "verify": VerifyOptions,
    "bench": BenchOptions,
    "device": DeviceOptions,
    "cache": CacheOptions,
}


def read_options(path: Path) -> object:
    folder = as_project(path)
    return [resolve(kind, {}, project=read_project_file(name, folder), environ={}) for name, kind in KINDS.items()]


PROJECT = """
[build]
target = "rpi4"
shape = ["x=1,3,224,224"]
seed = 1
compare = true
output = "dist"
[quantize]
percentile = 99.9
keep_fp32 = ["a"]
[verify]
timeout = 60.5
samples = 3
[release]
version = "1"
targets = ["rpi4", "rpi5"]
precision = ["fp32"]
predict = false
[[release.models]]
path = "m.onnx"
tolerance = 0.1
shape = ["x=1"]
"""
TABLE = {"version": 1, "mode": "max", "samples": 3, "tensors": {"a": {"low": -1.0, "high": 2.0}}}
REPORT = {
    "format": "tvmbuild-release",
    "version": "1",
    "cells": [{"name": "a", "library_bytes": 3, "predicted_ms": 1.5, "library_sha256": "0"}],
}
COSTS = {
    "CodeRegions": [
        {
            "Name": "r7",
            "SummaryView": {
                "Iterations": 100,
                "TotalCycles": 200,
                "BlockRThroughput": 1.5,
                "TotaluOps": 3,
                "DispatchWidth": 2,
            },
        }
    ]
}
CATALOGUE = (Path(__file__).parents[2] / "devtools" / "models.toml").read_bytes()
RECIPE = b'mean = [0.5, 0.5, 0.5]\nstd = [1, 1, 1]\nscale = 0.1\nresize = "crop"\ncrop = 0.9\nchannels = "BGR"\n'
RPI4 = (targets_folder() / "rpi4.toml").read_bytes()


def encoded(content: object) -> Callable[[], bytes]:
    return lambda: json.dumps(content).encode()


#: Ending, a good file, the public way to it, and the errors that it may raise.
READERS: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object], tuple[type[TvmbuildError], ...]]] = {
    "npy": (".npy", npy, lambda path: load_samples([SPEC], path), (InputDataError,)),
    "npz": (".npz", npz, lambda path: load_samples([SPEC], path), (InputDataError,)),
    "npy to calibrate": (".npy", npy, read_calibration, (CalibrationError,)),
    "npz to calibrate": (".npz", npz, read_calibration, (CalibrationError,)),
    "png": (".png", picture("PNG"), lambda path: load_samples([SPEC], path), (InputDataError,)),
    "palette": (".png", picture("PNG", "P"), read_calibration, (CalibrationError,)),
    "16-bit": (".png", picture("PNG", "I;16"), read_calibration, (CalibrationError,)),
    "jpeg": (".jpg", picture("JPEG", "CMYK"), lambda path: load_samples([SPEC], path), (InputDataError,)),
    "webp": (".webp", picture("WEBP"), read_calibration, (CalibrationError,)),
    "bmp": (".bmp", picture("BMP"), read_calibration, (CalibrationError,)),
    "test data": (".pb", tensor, read_test_data, (CalibrationError,)),
    "target": (".toml", lambda: RPI4, lambda path: load_target(str(path)), (TargetError,)),
    "options": (".toml", PROJECT.encode, read_options, (OptionError,)),
    "release": (".toml", PROJECT.encode, lambda path: read_plan(as_project(path)), (OptionError, TargetError)),
    "recipe": (".toml", lambda: RECIPE, lambda path: load_recipe(str(path)), (OptionError,)),
    "catalogue": (".toml", lambda: CATALOGUE, load_catalogue, (FetchError,)),
    "manifest": (".json", lambda: MANIFEST.to_json().encode(), read_manifest, (ArtifactError,)),
    "artifact": (".json", lambda: MANIFEST.to_json().encode(), open_artifacts, (ArtifactError,)),
    "library": (".so", lambda: b"\x7fELF\x02\x01" + bytes(200), open_artifacts, (ArtifactError,)),
    "archive": (".tar", lambda: bytes(10240), open_artifacts, (ArtifactError,)),
    "table": (".json", encoded(TABLE), read_table, (CalibrationError,)),
    "last report": (".json", encoded(REPORT), read_report, (ArtifactError,)),
    "costs": (".json", encoded(COSTS), lambda path: parse_costs(path.read_text("utf-8", "replace")), (ToolchainError,)),
    "private key": (".key", lambda: b"-----BEGIN PRIVATE KEY-----\nMC4=\n", load_signer, (OptionError,)),
    "public key": (".pub", lambda: b"-----BEGIN PUBLIC KEY-----\nMCow\n", load_verifier, (OptionError,)),
}

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(("float32", "rpi4", "x=1", "../x", "\x1b[0m", "a\0b", 10**400, -1, 0, 1))
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def mutated(good: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Change some bytes, cut the end off, or put something in between."""
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        what = draw(st.sampled_from(("set", "cut", "insert", "repeat")))
        if what == "set" and data:
            data[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del data[at : at + draw(st.integers(1, 200))]
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=12))
        else:
            data[at:at] = data[at : at + 40] * draw(st.integers(1, 3))
    return bytes(data)


@pytest.mark.parametrize("reader", sorted(READERS))
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    ending, good, read, allowed = READERS[reader]
    content = data.draw(st.binary(max_size=64)) if data.draw(st.integers(0, 4)) == 0 else mutated(good(), data.draw)
    path = tmp_path / f"given{ending}"
    path.write_bytes(content)
    with contextlib.suppress(*allowed):
        read(path)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_the_good_ones_are_read(reader: str, tmp_path: Path) -> None:
    ending, good, read, _ = READERS[reader]
    (tmp_path / f"given{ending}").write_bytes(good())
    if reader not in ("artifact", "library", "archive", "private key", "public key"):
        assert read(tmp_path / f"given{ending}") is not None


def places(content: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Give the place of each value in a JSON document."""
    yield path
    for key in content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ():
        yield from places(content[key], (*path, key))


@pytest.mark.parametrize("reader", ["manifest", "table", "last report", "costs"])
@settings(max_examples=2 * EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_any_value_at_any_place_of_a_document(reader: str, data: st.DataObject, tmp_path: Path) -> None:
    _, good, read, allowed = READERS[reader]
    content = {"": json.loads(good())}
    *outer, last = data.draw(st.sampled_from(list(places(content))[1:]))
    within: Any = content
    for key in outer:
        within = within[key]
    if data.draw(st.booleans()):
        within[last] = data.draw(VALUES)
    else:
        del within[last]
    (tmp_path / "given.json").write_text(json.dumps(content.get("")))
    with contextlib.suppress(*allowed):
        read(tmp_path / "given.json")


@pytest.mark.parametrize("kind", list(KINDS.values()), ids=lambda kind: kind.__name__)
@settings(max_examples=EXAMPLES, derandomize=True)
@given(data=st.data())
def test_any_value_of_any_option(kind: Any, data: st.DataObject) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    values = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=3))
    with contextlib.suppress(OptionError):
        resolve(kind, {}, project=values, environ={})
    with contextlib.suppress(OptionError):
        resolve(kind, values, environ={f"TVMBUILD_{key.upper()}": str(value) for key, value in values.items()})

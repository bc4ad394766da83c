"""Precision is one enum: its rows, the switches that set it, and the manifests that had flags instead."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_artifact import MANIFEST

from tvmbuild.artifact.manifest import read_manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.verify import own_tolerance, precision_of, rounding_in
from tvmbuild.onnx_model.rounding import Rounding
from tvmbuild.support.errors import ArtifactError, OptionError
from tvmbuild.support.options import BuildOptions, TuneOptions
from tvmbuild.support.precision import Precision
from tvmbuild.support.resolve import read_project_options, resolve
from tvmbuild.target.cores import CORES, EXTENSIONS
from tvmbuild.target.target import load_target, require_precision
from tvmbuild.tuning.tune import tune


@pytest.mark.parametrize("precision", Precision)
def test_a_row_is_whole(precision: Precision) -> None:
    assert f"{precision}" == str(precision) == json.loads(json.dumps(precision)) == precision.value
    assert copy.deepcopy(precision) is pickle.loads(pickle.dumps(precision)) is precision
    assert np.issubdtype(np.dtype(precision.floats), np.floating)
    assert not precision.codes or np.issubdtype(np.dtype(precision.codes), np.integer)
    assert precision.extension in ("", *EXTENSIONS)
    # What needs no extension every core that is predicted can do.
    predicted = [core for core in CORES.values() if core.is_predicted]
    able = [core for core in predicted if not precision.extension or precision.extension in core.extensions]
    assert able
    assert all(core.macs(precision) > 0 for core in able)


def test_rows_differ_in_what_they_compute_and_in_the_names_of_their_files() -> None:
    assert len({(each.floats, each.codes) for each in Precision}) == len(Precision)
    assert len({each.ending for each in Precision}) == len(Precision)


def test_a_precision_that_computes_in_half_is_refused_where_that_is_lacking() -> None:
    for precision in Precision:
        require_precision(load_target("rpi5"), precision)
        if precision.floats == "float16":
            with pytest.raises(OptionError, match=f"^{precision} needs"):
                require_precision(load_target("rpi4"), precision)


def resolved(
    kind: type[Any], flags: dict[str, Any], project: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> Any:
    return resolve(kind, flags, project=project, environ=environ or {})


@pytest.mark.parametrize(("half", "codes"), itertools.product((None, False, True), repeat=2))
def test_each_source_has_its_switches_and_a_later_one_leaves_the_other_side(
    half: bool | None, codes: bool | None
) -> None:
    """What two separate options gave, the one gives."""
    told = {name: value for name, value in (("fp16", half), ("int8", codes)) if value is not None}
    texts = {f"TVMBUILD_{name.upper()}": str(value) for name, value in told.items()}
    expected = {(False, False): "fp32", (True, False): "fp16", (False, True): "int8", (True, True): "int8-fp16"}
    alone = expected[bool(half), bool(codes)]
    for found in (
        resolved(BuildOptions, told),
        resolved(BuildOptions, {}, told),
        resolved(BuildOptions, {}, {}, texts),
    ):
        assert found.options.precision == alone
    over = resolved(BuildOptions, told, {"fp16": True, "int8": True})
    assert over.options.precision == expected[half is not False, codes is not False]


def test_the_origin_names_who_decided() -> None:
    assert resolved(BuildOptions, {"fp16": True}).lines() == ["precision = fp16  (--fp16)"]
    assert resolved(BuildOptions, {"fp16": False}, {"fp16": True}).lines() == [
        "precision = fp32  (tvmbuild.toml, --fp32)"
    ]
    assert resolved(BuildOptions, {}, {"precision": "int8"}).lines() == ["precision = int8  (tvmbuild.toml)"]
    both = resolved(BuildOptions, {"fp16": True}, {"precision": "int8"})
    assert both.lines() == ["precision = int8-fp16  (tvmbuild.toml, --fp16)"]


@pytest.mark.parametrize("odd", ["fp8", 16, ["fp16"], {"fp16": True}, True])
def test_an_unknown_precision_is_refused_with_the_known_ones(odd: object) -> None:
    with pytest.raises(OptionError, match=r"tvmbuild.toml: precision must be one of fp32, fp16, int8, "):
        resolved(BuildOptions, {}, {"precision": odd})


@pytest.mark.parametrize("switch", ["fp16", "int8"])
def test_a_switch_is_true_or_false(switch: str) -> None:
    with pytest.raises(OptionError, match=f"tvmbuild.toml: {switch} must be true or false"):
        resolved(BuildOptions, {}, {switch: "maybe"})


@pytest.mark.parametrize(
    ("build", "own", "precision"),
    [
        ("fp16 = true", "", "fp16"),
        ("fp16 = true\nint8 = true", "", "fp16"),
        ('precision = "int8-fp16"', "", "fp16"),
        ('precision = "int8"', "", "fp32"),
        ("fp16 = true", 'precision = "fp32"', "fp32"),
        ('precision = "fp16"', "fp16 = false", "fp32"),
        ("precision = [1]", "", None),
    ],
)
def test_tune_follows_build_in_what_it_can_have(
    build: str, own: str, precision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tvmbuild.toml").write_text(f"[build]\n{build}\n[tune]\n{own}\n")
    monkeypatch.chdir(tmp_path)
    project = read_project_options(TuneOptions, "tune")
    if precision is None:
        with pytest.raises(OptionError, match="precision"):
            resolved(TuneOptions, {}, project)
    else:
        assert resolved(TuneOptions, {}, project).options.precision == precision


def test_nothing_is_tuned_in_a_precision_that_quantizes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"Nothing is tuned in int8.*'quantize'"):
        tune(tmp_path / "net.onnx", load_target("host"), TuneOptions(precision=Precision.INT8))
    with pytest.raises(OptionError, match="unknown option 'int8'"):
        resolved(TuneOptions, {}, {"int8": True})


def older(tmp_path: Path, told: dict[str, Any], model: dict[str, Any]) -> Path:
    """Write a manifest as version 1 had it."""
    content = json.loads(MANIFEST.to_json())
    content["version"] = 1
    content["options"] = {"shape": [], "value": [], **told}
    content["model"] |= model
    path = tmp_path / "m.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("told", "precision"), [({}, Precision.FP32), ({"fp16": False}, Precision.FP32), ({"fp16": True}, Precision.FP16)]
)
def test_a_manifest_of_before_is_read_as_one_of_today(
    tmp_path: Path, told: dict[str, Any], precision: Precision
) -> None:
    manifest = read_manifest(older(tmp_path, told, {"precision": {"code_bits": 8, "half": False}}))
    artifact = Artifact(tmp_path, manifest)
    assert (precision_of(artifact), rounding_in(artifact)) == (precision, Rounding(8))
    assert manifest.options == {"shape": [], "value": [], "precision": precision}
    assert own_tolerance(artifact, manifest.outputs[0]) == 0.1
    # Written again, it is one of today.
    (tmp_path / "again.json").write_text(manifest.to_json())
    assert read_manifest(tmp_path / "again.json") == manifest


@pytest.mark.parametrize("odd", ["True", 1, [], {}, None, "fp8"])
def test_a_flag_or_a_precision_that_is_none_is_refused(tmp_path: Path, odd: object) -> None:
    with pytest.raises(ArtifactError, match="precision"):
        read_manifest(older(tmp_path, {"fp16": odd}, {}))
    content = json.loads(MANIFEST.to_json())
    content["options"]["precision"] = odd
    (tmp_path / "today.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="precision"):
        read_manifest(tmp_path / "today.json")

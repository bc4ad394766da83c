from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.commands.app import run
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import (
    BenchOptions,
    BuildOptions,
    CacheOptions,
    InspectOptions,
    QuantizeOptions,
    TuneOptions,
    VerifyOptions,
)
from tvmbuild.support.precision import Precision
from tvmbuild.support.resolve import read_project_file, read_project_options, resolve


def test_later_sources_win_and_are_named() -> None:
    resolved = resolve(
        BuildOptions,
        {"seed": 4, "shape": ["x=1,2"]},
        project={"target": "rpi3", "seed": 1, "output": "out", "toolchain": "gnu"},
        target=("rpi3", {"toolchain": "zig"}),
        environ={"TVMBUILD_SEED": "3", "TVMBUILD_TARGET": "rpi5"},
    )
    assert resolved.options == BuildOptions(
        target="rpi5", seed=4, shape=("x=1,2",), output=Path("out"), toolchain="zig"
    )
    origins = {name: origin for name, origin in resolved.origins.items() if origin != "default"}
    assert origins == {
        "target": "TVMBUILD_TARGET",
        "seed": "--seed",
        "shape": "--shape",
        "output": "tvmbuild.toml",
        "toolchain": "target rpi3",
    }
    assert "seed = 4  (--seed)" in resolved.lines()


def test_nothing_given_is_all_default() -> None:
    resolved = resolve(BuildOptions, {"seed": None, "shape": []}, environ={})
    assert resolved.options == BuildOptions()
    assert resolved.lines() == []


@pytest.mark.parametrize(("word", "expected"), [("yes", True), ("0", False), ("False", False), ("on", True)])
def test_booleans_from_the_environment(word: str, expected: bool) -> None:
    assert resolve(BuildOptions, {}, environ={"TVMBUILD_COMPARE": word}).options.compare is expected


@pytest.mark.parametrize(
    ("environ", "project", "message"),
    [
        ({"TVMBUILD_SEED": "four"}, {}, "TVMBUILD_SEED: seed must be a whole number"),
        ({"TVMBUILD_COMPARE": "maybe"}, {}, "TVMBUILD_COMPARE: compare must be true or false"),
        ({}, {"seed": True}, "tvmbuild.toml: seed must be a whole number"),
        ({}, {"seed": 2.7}, "tvmbuild.toml: seed must be a whole number"),
        ({}, {"seed": float("inf")}, "tvmbuild.toml: seed must be a whole number"),
        ({}, {"target": 4}, "tvmbuild.toml: target must be a text"),
        ({}, {"targget": "rpi4"}, "unknown option 'targget'"),
        ({}, {"seed": 2.7}, "tvmbuild.toml: seed must be a whole number, not 2.7"),
        ({}, {"seed": 2.0}, "seed must be a whole number"),
        ({}, {"seed": math.inf}, "seed must be a whole number, not inf"),
        ({}, {"seed": -1}, "seed must be a whole number >= 0, not -1"),
        ({}, {"seed": 16**5000}, "seed must be a whole number"),
        ({}, {"seed": "4"}, "seed must be a whole number, not '4'"),
        ({}, {"seed": {"a": 1}}, "seed must be a whole number"),
        ({}, {"shape": ["x=1", 2]}, "shape must be a text"),
        ({}, {"shape": 5}, "shape must be a list"),
        ({}, {"output": "a" * 256}, "output must be a path"),
        ({}, {"output": "a\0b"}, "output must be a path"),
        ({}, {"output": ["dist"]}, "output must be a text"),
        ({}, {"compare": "yes"}, "compare must be true or false"),
        ({"TVMBUILD_SEED": "1e3"}, {}, "TVMBUILD_SEED: seed must be a whole number, not '1e3'"),
        ({"TVMBUILD_SEED": "9" * 5000}, {}, "TVMBUILD_SEED: seed must be a whole number"),
    ],
)
def test_bad_values_name_their_origin(environ: dict[str, str], project: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve(BuildOptions, {}, project=project, environ=environ)


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        (VerifyOptions, "timeout", (math.nan, math.inf, 0.0, -1.0, 10**400)),
        (VerifyOptions, "tolerance", (math.nan, math.inf, -0.1)),
        (VerifyOptions, "samples", (0, -1, 2**40)),
        (BenchOptions, "runs", (0, -5)),
        (BenchOptions, "threads", (-1, 10**6)),
        (TuneOptions, "min_gain", (math.nan, -0.1, 1.5)),
        (TuneOptions, "workers", (-1, 10**9)),
        (QuantizeOptions, "percentile", (math.nan, math.inf)),
        (QuantizeOptions, "held_out", (math.nan, -math.inf)),
        (CacheOptions, "cache_timeout", (math.nan, 0.0)),
    ],
)
def test_numbers_outside_their_bounds_are_refused_from_every_source(
    kind: type, name: str, wrong: tuple[float, ...]
) -> None:
    for value in wrong:
        for project, flags in (({name: value}, {}), ({}, {name: value})):
            with pytest.raises(OptionError, match=f": {name} must be "):
                resolve(kind, flags, project=project, environ={})


def test_optional_path_and_float() -> None:
    options = resolve(VerifyOptions, {"inputs": "a.npz", "tolerance": 0.5}, environ={}).options
    assert (options.inputs, options.tolerance) == (Path("a.npz"), 0.5)


def test_project_file(in_empty_folder: Path) -> None:
    assert read_project_file("build") == {}
    (in_empty_folder / "tvmbuild.toml").write_text('[build]\ntarget = "rpi5"\n')
    assert read_project_file("build") == {"target": "rpi5"}
    assert read_project_file("verify") == {}
    (in_empty_folder / "tvmbuild.toml").write_text("build = 3\n")
    with pytest.raises(OptionError, match="'build' must be a table"):
        read_project_file("build")
    (in_empty_folder / "tvmbuild.toml").write_text("[build\n")
    with pytest.raises(OptionError, match="cannot be read"):
        read_project_file("build")


def test_tune_quantize_and_inspect_follow_build_where_they_are_silent(in_empty_folder: Path) -> None:
    build = '[build]\ntarget = "rpi5"\nshape = ["x=1,3"]\nfp16 = true\noutput = "out"\nseed = 4\n'
    (in_empty_folder / "tvmbuild.toml").write_text(build + '[tune]\ntrials = 3\ntarget = "host"\n')

    def resolved(kind: type, table: str, flags: dict[str, object]) -> Any:
        return resolve(kind, flags, project=read_project_options(kind, table), environ={}).options

    tune = TuneOptions(target="host", shape=("x=1,3",), precision=Precision.FP16, trials=3)
    assert resolved(TuneOptions, "tune", {}) == tune
    # The seeds mean different things.
    assert resolved(QuantizeOptions, "quantize", {}) == QuantizeOptions(shape=("x=1,3",))
    assert resolved(QuantizeOptions, "quantize", {"shape": ["x=2,3"]}).shape == ("x=2,3",)
    assert resolved(InspectOptions, "inspect", {}) == InspectOptions("rpi5", ("x=1,3",))


@pytest.mark.parametrize("command", ["tune", "quantize"])
def test_commands_show_the_shape_that_they_take_from_build(
    command: str, in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_empty_folder / "tvmbuild.toml").write_text('[build]\nshape = ["x=1,3"]\n')
    assert run([command, "none.onnx"]) != 0
    assert "shape = x=1,3  (tvmbuild.toml)" in capsys.readouterr().out

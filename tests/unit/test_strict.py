"""Kernels without a fast schedule: a warning, or an error where the build or the release is strict."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model
from test_artifact import MANIFEST

from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.pipeline import build
from tvmbuild.releases import cell
from tvmbuild.releases.plan import read_plan
from tvmbuild.support.errors import SlowKernelError
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

NAIVE_KERNEL = {"ops": ["conv2d", "relu"], "calls": 1, "kind": "naive", "workload": "1x8x8x3", "mac_share": 1.0}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    weights = np.ones((4, 3, 1, 1), np.float32)
    onnx.save(
        model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 3, 8, 8]}, ["y"], {"w": weights}),
        tmp_path / "net.onnx",
    )
    return tmp_path / "net.onnx"


def test_a_strict_build_refuses_a_slow_kernel_before_it_is_compiled(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvmbuild.schedules.registry.SCHEDULES", ())
    monkeypatch.setattr("tvmbuild.pipeline.find_toolchain", lambda *_: Toolchain("gnu", (), (), "gcc", False))
    monkeypatch.setattr("tvmbuild.pipeline.compile_module", lambda *_: pytest.fail("it was compiled"))
    options = BuildOptions(output=network.parent / "dist", strict=True, compare=False)
    with pytest.raises(SlowKernelError, match=r"has no fast schedule, with 100\.0% of the multiply-accumulates"):
        build(network, load_target("rpi4"), options)
    assert not list(network.parent.glob("dist/*"))


def test_a_release_is_strict_unless_told_otherwise(tmp_path: Path) -> None:
    for line, strict in (("", True), ("strict = false\n", False)):
        text = f'[release]\n{line}[[release.models]]\npath = "net.onnx"\nshape = ["x=1,3"]\n'
        (tmp_path / "tvmbuild.toml").write_text(text)
        assert read_plan(tmp_path).cells[0].options.strict is strict


def test_a_release_takes_no_artifact_with_a_slow_kernel() -> None:
    def with_kernel(**changes: object) -> None:
        fusion = {"passes": [], "kernels": [{**NAIVE_KERNEL, **changes}]}
        cell._require_schedules(dataclasses.replace(MANIFEST, fusion=fusion))

    with pytest.raises(SlowKernelError, match=r"net-rpi4: conv2d\+relu \(1x8x8x3\) has no fast schedule"):
        with_kernel()
    with_kernel(kind="conv2d.direct")
    # What only moves data multiplies nothing.
    with_kernel(mac_share=0.0)

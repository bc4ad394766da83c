"""A library for an older glibc than the build machine's asks only for symbols that the older one has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tvm
from tvm import relax
from tvm.script import relax as R  # noqa: N812

from tvmbuild.codegen.elf import version_key
from tvmbuild.codegen.link import export_objects, link_library
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.target.target import load_target


def test_double_precision_exp_links_for_glibc_2_28(tmp_path: Path) -> None:
    # exp got a new version in glibc 2.29, fmod one in 2.38; this target has 2.28.
    target = load_target("generic-aarch64")
    x = relax.Var("x", R.Tensor((7,), "float64"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.floor_mod(relax.op.exp(x), relax.const(3.0, "float64")))
            result = builder.emit_output(y)
        builder.emit_func_output(result)
    objects = export_objects(tvm.compile(builder.get(), target.to_tvm()), tmp_path)

    facts = link_library(objects, tmp_path / "exp.so", target, find_toolchain(target, "gnu"))

    assert "exp" in {symbol.name for symbol in facts.symbols}
    assert version_key(facts.glibc) <= version_key(target.glibc)
    values = np.linspace(-3, 3, 7)
    outputs = open_device("emulated", target).run(RunRequest(tmp_path / "exp.so", [values])).outputs
    # Two libraries' exp, each within a unit in the last place; the remainder keeps the absolute error of exp(3) ~ 20.
    np.testing.assert_allclose(outputs[0], np.exp(values) % 3.0, rtol=1e-12, atol=1e-13)

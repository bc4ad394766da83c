"""Libraries whose weights are placed at their end, as those of a gigabyte and more are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from elftools.elf.elffile import ELFFile
from schedule_harness import build_module
from tvm import relax

from tvmbuild import link
from tvmbuild.device import open_device
from tvmbuild.target import load_target
from tvmbuild.toolchain import find_toolchain


@pytest.mark.parametrize("name", ["host", "rpi4"])
def test_weights_at_the_end_are_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_FAR_BYTES", 1)
    target = load_target(name)
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    module = build_module([(3, 4)], lambda x: relax.op.add(x, relax.const(weights)))
    objects = link.export_objects(tvm.compile(module, target.to_tvm()), tmp_path)
    library = tmp_path / "far.so"
    link.link_library(objects, library, target, find_toolchain(target))
    with library.open("rb") as stream:
        sections = {section.name: section for section in ELFFile(stream).iter_sections()}
    assert sections[".tvmbuild.weights"]["sh_addr"] > sections[".bss"]["sh_addr"]
    result = open_device("auto", target).run(library, [np.ones((3, 4), np.float32)])
    np.testing.assert_array_equal(result.outputs[0], weights + 1)

"""Libraries with their weights as read-only data: found by kernels, wherever the linker places them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from elftools.elf.elffile import ELFFile
from schedule_harness import build_module
from tvm import relax

from tvmbuild.codegen import link
from tvmbuild.codegen.compile import compile_module
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.codegen.weight_object import SECTION, compile_weights, stored_weights
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.pipeline import lower, optimize
from tvmbuild.graph.weights import take_out_weights
from tvmbuild.target.target import load_target

#: More than a page, so that they leave the bytecode.
WEIGHTS = np.arange(3 * 700, dtype=np.float32).reshape(3, 700)
#: What the model below makes of ones.
EXPECTED = (1 + WEIGHTS) @ np.ones((700, 700), np.float32) + WEIGHTS


def build_objects(name: str, folder: Path, toolchain: str | None = None) -> list[Path]:
    target = load_target(name)
    ones = np.ones((700, 700), np.float32)

    def body(x):
        product = relax.op.matmul(relax.op.add(x, relax.const(WEIGHTS)), relax.const(ones))
        return relax.op.add(product, relax.const(WEIGHTS))

    module, _ = optimize(build_module([(3, 700)], body), target)
    module, weights = take_out_weights(lower(module, target))
    assert [weight.shape for weight in weights] == [(3, 700), (700, 700)]
    objects = link.export_objects(compile_module(module, target), folder)
    return objects + compile_weights(weights, folder, find_toolchain(target, toolchain))


@pytest.mark.parametrize(("name", "far"), [("host", False), ("rpi4", False), ("host", True), ("rpi4", True)])
def test_kernels_find_the_weights(name: str, far: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``far`` is what libraries of a gigabyte and more are: their weights lie behind everything."""
    if far:
        monkeypatch.setattr(link, "_FAR_BYTES", 1)
    target = load_target(name)
    library = tmp_path / "model.so"
    link.link_library(build_objects(name, tmp_path), library, target, find_toolchain(target))
    with library.open("rb") as stream:
        sections = {section.name: section for section in ELFFile(stream).iter_sections()}
    assert (sections[SECTION]["sh_addr"] > sections[".bss"]["sh_addr"]) == far
    result = open_device("auto", target).run(RunRequest(library, [np.ones((3, 700), np.float32)]))
    np.testing.assert_array_equal(result.outputs[0], EXPECTED)


def test_tvm_loads_the_tar_with_no_help(tmp_path: Path) -> None:
    link.write_library_tar(build_objects("host", tmp_path), tmp_path / "model.tar")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(tmp_path / "model.tar")), tvm.cpu())
    output = machine["main"](tvm.runtime.tensor(np.ones((3, 700), np.float32)))
    np.testing.assert_array_equal(output.numpy(), EXPECTED)


def test_the_object_tells_nothing_of_where_it_was_made(tmp_path: Path) -> None:
    toolchain = find_toolchain(load_target("rpi4"))
    made = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        made.append(compile_weights([WEIGHTS], folder, toolchain)[0].read_bytes())
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0]


def test_equal_bytes_are_stored_once_and_found_again(tmp_path: Path) -> None:
    toolchain = find_toolchain(load_target("rpi4"))
    ones = np.ones(1500, np.int8)
    weights = compile_weights([WEIGHTS, ones, WEIGHTS.reshape(700, 3), WEIGHTS.view(np.int32)], tmp_path, toolchain)[0]
    found = stored_weights(weights)
    content = weights.read_bytes()
    given = [content[weight.offset : weight.offset + weight.bytes] for weight in found]
    assert given == [WEIGHTS.tobytes(), ones.tobytes()]
    for length in (0, 63, 64, len(content) // 2, len(content) - 100):
        weights.write_bytes(content[:length])
        with pytest.raises(ValueError, match="weights"):
            stored_weights(weights)


@pytest.mark.parametrize("place", ['a"b', "back\\slash", "two\nlines", "a b%s"])
def test_weights_are_read_from_a_folder_of_any_name(place: str, tmp_path: Path) -> None:
    (tmp_path / place).mkdir()
    objects = compile_weights([WEIGHTS], tmp_path / place, find_toolchain(load_target("host")))
    assert [weight.bytes for weight in stored_weights(objects[0])] == [WEIGHTS.nbytes]


def test_the_name_of_a_weight_cannot_become_code(tmp_path: Path) -> None:
    """The names in a .tar from elsewhere are written into a source when several boards share their weights."""
    data = compile_weights([WEIGHTS], tmp_path, find_toolchain(load_target("host")))[0]
    digest = stored_weights(data)[0].digest
    for name in (b'x\\n.incbin \\"/etc/passwd\\"', b'");int evil;asm("'):
        data.write_bytes(data.read_bytes().replace(digest.encode(), name.ljust(64, b"a")))
        with pytest.raises(ValueError, match="by something else than its SHA-256"):
            stored_weights(data)
        data.write_bytes(data.read_bytes().replace(name.ljust(64, b"a"), digest.encode()))

"""Small modules, linked and run on an emulated Cortex-A72 and on this machine, against NumPy."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvmbuild.codegen.elf import read_elf, version_key
from tvmbuild.codegen.link import export_objects, link_library, write_library_tar
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import Device, open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.device.runner_build import runner_folder
from tvmbuild.support.errors import DeviceError, IncompatibleLibraryError, InputDataError
from tvmbuild.target.target import Target, load_target

RPI4 = load_target("rpi4")
RPI5 = load_target("rpi5")
HOST = load_target("host")
WEIGHT = np.linspace(-1, 1, 20, dtype="float32").reshape(4, 5)
#: Four products of numbers of about 1, summed in another order: a few roundings.
TOLERANCE = 1e-6


def module(compute: Callable[..., list[relax.Expr]], *tensors: tuple[tuple[int, ...], str]) -> Any:
    """Return a module whose main computes this of inputs of these shapes and types."""
    variables = [relax.Var(f"x{index}", relax.TensorType(*tensor)) for index, tensor in enumerate(tensors)]
    builder = relax.BlockBuilder()
    with builder.function("main", variables):
        with builder.dataflow():
            values = [builder.emit(value) for value in compute(*variables)]
            result = builder.emit_output(relax.Tuple(values) if len(values) > 1 else values[0])
        builder.emit_func_output(result)
    return builder.get()


def several() -> Any:
    """Return a module with outputs of several types, from a matrix and a number."""

    def compute(x: relax.Expr, n: relax.Expr) -> list[relax.Expr]:
        y = relax.op.nn.relu(relax.op.matmul(x, relax.const(WEIGHT)))
        return [y, n + relax.const(1, "int64"), relax.op.greater(y, relax.const(0.5, "float32")), relax.op.exp(y)]

    return module(compute, ((3, 4), "float32"), ((), "int64"))


def build(mod: Any, target: Target, folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    return export_objects(tvm.compile(mod, target.to_tvm()), folder)


def link(objects: list[Path], output: Path, target: Target) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    link_library(objects, output, target, find_toolchain(target))
    return output


def inputs() -> tuple[np.ndarray[Any, Any], ...]:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    return x, np.array(41, dtype="int64")


def check(outputs: tuple[np.ndarray[Any, Any], ...]) -> None:
    x, n = inputs()
    y = np.maximum(x @ WEIGHT, 0)
    expected = (y, n + 1, y > 0.5, np.exp(y))
    assert [output.dtype for output in outputs] == [value.dtype for value in expected]
    assert [output.shape for output in outputs] == [value.shape for value in expected]
    for output, value in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, value, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("device")


@pytest.fixture(scope="module")
def objects(folder: Path) -> list[Path]:
    return build(several(), RPI4, folder / "rpi4")


@pytest.fixture(scope="module")
def host_objects(folder: Path) -> list[Path]:
    return build(several(), HOST, folder / "host")


@pytest.fixture(scope="module")
def library(objects: list[Path], folder: Path) -> Path:
    return link(objects, folder / "several.so", RPI4)


@pytest.fixture(scope="module")
def board() -> Device:
    return open_device("emulated", RPI4)


def test_the_emulated_board_computes_what_numpy_computes(library: Path, board: Device) -> None:
    result = board.run(RunRequest(library, inputs(), repeat=2, warmup=1, threads=1))
    check(result.outputs)
    assert len(result.seconds) == 2
    assert result.peak_bytes > 1e6


def test_this_machine_computes_what_numpy_computes(host_objects: list[Path], folder: Path) -> None:
    library = link(host_objects, folder / "host.so", HOST)
    check(open_device("auto", HOST).run(RunRequest(library, inputs())).outputs)


def test_a_tensor_without_elements_passes_through(folder: Path, board: Device) -> None:
    library = link(
        build(module(lambda x: [x + x], ((0, 4), "float32")), RPI4, folder / "empty"), folder / "empty.so", RPI4
    )
    (output,) = board.run(RunRequest(library, [np.zeros((0, 4), "float32")])).outputs
    assert output.shape == (0, 4)


def test_library_and_runner_start_where_the_targets_oldest_glibc_is(library: Path) -> None:
    for target in (RPI4, HOST):
        for path in sorted(runner_folder(target).iterdir()):
            if path.is_file():
                assert version_key(read_elf(path).glibc) <= (2, 31), path
    facts = read_elf(library)
    assert facts.machine == "aarch64"
    assert version_key(facts.glibc) <= version_key(RPI4.glibc)


def test_the_same_objects_give_the_same_bytes_in_any_folder(objects: list[Path], library: Path, folder: Path) -> None:
    again = build(several(), RPI4, folder / "a folder with another name")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in objects]
    assert link(again, folder / "elsewhere" / library.name, RPI4).read_bytes() == library.read_bytes()
    for name, files in (("one.tar", objects), ("two.tar", again)):
        write_library_tar(files, folder / name)
    assert (folder / "one.tar").read_bytes() == (folder / "two.tar").read_bytes()


def test_the_tars_members_linked_as_load_module_does_run_on_the_board(
    objects: list[Path], folder: Path, board: Device
) -> None:
    write_library_tar(objects, folder / "several.tar")
    unpacked = folder / "unpacked"
    with tarfile.open(folder / "several.tar") as archive:
        archive.extractall(unpacked)
    members = sorted(map(str, unpacked.iterdir()))
    # The command of tvm.support.cc.create_shared, with the compiler that a board's own g++ corresponds to.
    command = [*find_toolchain(RPI4, "gnu").cxx, "-shared", "-fPIC", "-o", str(folder / "several.tar.so"), *members]
    subprocess.run(command, check=True, timeout=120)
    check(board.run(RunRequest(folder / "several.tar.so", inputs())).outputs)


def test_tvm_itself_loads_the_tar(host_objects: list[Path], folder: Path) -> None:
    write_library_tar(host_objects, folder / "loaded.tar")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(folder / "loaded.tar")), tvm.cpu())
    outputs = machine["main"](*(tvm.runtime.tensor(array) for array in inputs()))
    check(tuple(output.numpy() for output in outputs))


@pytest.mark.skipif(not find_spec("ziglang"), reason="needs zig: pip install 'tvmbuild[zig]'")
def test_zig_links_what_the_board_runs(objects: list[Path], folder: Path, board: Device) -> None:
    zig = find_toolchain(RPI4, "zig")
    for name in ("zig-1", "zig-2"):
        (folder / name).mkdir()
        facts = link_library(objects, folder / name / "several.so", RPI4, zig)
        assert version_key(facts.glibc) <= version_key(RPI4.glibc)
    assert (folder / "zig-1/several.so").read_bytes() == (folder / "zig-2/several.so").read_bytes()
    check(board.run(RunRequest(folder / "zig-1/several.so", inputs())).outputs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, n: (x,), "2"),
        (lambda x, n: (x[:2], n), "3"),
        (lambda x, n: (x.astype("float64"), n), "float64"),
        (lambda x, n: (x[0], n), "2"),
    ],
)
def test_inputs_that_do_not_fit_are_told(
    library: Path, board: Device, change: Callable[..., tuple[np.ndarray[Any, Any], ...]], words: str
) -> None:
    with pytest.raises(InputDataError) as caught:
        board.run(RunRequest(library, change(*inputs())))
    assert "do not fit the model" in caught.value.message
    assert words in caught.value.message
    assert "tvmbuild inspect" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not an array", "is not a .npy file"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }", "header is cut off"),
        (None, "No such file"),
    ],
)
def test_a_damaged_input_file_is_named(library: Path, folder: Path, content: bytes | None, words: str) -> None:
    """By hand, since run() writes the files itself."""
    path = folder / "damaged.npy"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    device = open_device("emulated", RPI4)
    command = [*device.launcher(), str(library), "--input", str(path)]  # type: ignore[attr-defined]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 4
    assert str(path) in done.stderr
    assert words in done.stderr


def test_a_cut_off_array_is_refused_with_both_sizes(library: Path, folder: Path, board: Device) -> None:
    path = folder / "cut.npy"
    np.save(path, inputs()[0])
    path.write_bytes(path.read_bytes()[:-4])
    command = [*board.launcher(), str(library), "--input", str(path)]  # type: ignore[attr-defined]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 4
    assert "44 bytes" in done.stderr
    assert "48" in done.stderr


def test_a_missing_library_is_named(folder: Path, board: Device) -> None:
    with pytest.raises(IncompatibleLibraryError, match=r"none\.so cannot be read: No such file"):
        board.run(RunRequest(folder / "none.so", inputs()))


def test_a_library_of_this_machine_does_not_run_on_the_board(
    host_objects: list[Path], folder: Path, board: Device
) -> None:
    if HOST.arch == RPI4.arch:
        pytest.skip("this machine is of the board's architecture")
    library = link(host_objects, folder / "host.so", HOST)
    with pytest.raises(IncompatibleLibraryError, match=f"is for {HOST.arch}, but rpi4 is aarch64"):
        board.run(RunRequest(library, inputs()))


def test_a_library_that_holds_no_model_is_told_apart(folder: Path, board: Device) -> None:
    source = folder / "plain.c"
    source.write_text("int answer(void) { return 42; }\n")
    library = folder / "plain.so"
    command = [*find_toolchain(RPI4).cxx, "-xc", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, timeout=120)
    with pytest.raises(IncompatibleLibraryError) as caught:
        board.run(RunRequest(library, inputs()))
    assert "plain.so" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_run_that_takes_too_long_is_ended(library: Path, board: Device) -> None:
    with pytest.raises(DeviceError, match="did not finish within 1 seconds"):
        board.run(RunRequest(library, inputs(), repeat=99_999_999, timeout=1))


def test_code_for_a_newer_board_is_an_illegal_instruction_on_this_one(folder: Path, board: Device) -> None:
    x = np.linspace(-2, 2, 64).astype("float16")
    # Cores with fullfp16 compute in half precision, others in single.
    halves = module(lambda x: [(x + x) * x], ((64,), "float16"))
    newer = link(build(halves, RPI5, folder / "rpi5"), folder / "rpi5.so", RPI4)
    with pytest.raises(DeviceError) as caught:
        board.run(RunRequest(newer, [x]))
    assert caught.value.message == "The library uses an instruction that cortex-a72 does not have."
    assert caught.value.hint == "Build it for this board: -t rpi4."
    # The same code is fine on its own board, and the same model built for this one.
    own = link(build(halves, RPI4, folder / "halves"), folder / "halves.so", RPI4)
    for device, library in ((open_device("emulated", RPI5), newer), (board, own)):
        (output,) = device.run(RunRequest(library, [x])).outputs
        np.testing.assert_allclose(output, 2 * x * x, rtol=2e-3)


def test_dot_products_in_int8_are_an_illegal_instruction_on_an_older_core(
    objects: list[Path], folder: Path, board: Device
) -> None:
    source = folder / "dot.c"
    source.write_text(
        "__attribute__((constructor)) static void dot(void) {\n"
        '  __asm__ volatile(".arch armv8.2-a+dotprod\\n sdot v0.4s, v1.16b, v2.16b" ::: "v0");\n'
        "}\n"
    )
    command = [*find_toolchain(RPI4).cxx, "-xc", "-O1", "-fPIC", "-c", "-o", str(folder / "dot.o"), str(source)]
    subprocess.run(command, check=True, timeout=120)
    library = link([*objects, folder / "dot.o"], folder / "dot.so", RPI4)
    with pytest.raises(DeviceError, match="an instruction that cortex-a72 does not have"):
        board.run(RunRequest(library, inputs()))
    check(open_device("emulated", RPI5).run(RunRequest(library, inputs())).outputs)

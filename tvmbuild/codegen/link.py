"""From TVM's object files to the files that a board loads: the ``.tar`` and the shared library."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvmbuild.codegen.elf import BASE_LIBRARIES, ORIGIN, ElfFacts, check_compatible
from tvmbuild.codegen.old_libm import old_libm_options
from tvmbuild.codegen.toolchain import Toolchain, run_compiler
from tvmbuild.codegen.weight_object import SECTION
from tvmbuild.support.errors import CompileError, OutputError
from tvmbuild.target.target import Target

_LINK_OPTIONS = (
    "-shared",
    "-fPIC",
    # Nothing that differs from one build to the next.
    "-Wl,--build-id=none",
    # LLVM's debug sections tell nothing that the symbols do not.
    "-Wl,--strip-debug",
    # Only libraries that a kernel calls; g++ would add its own.
    "-Wl,--as-needed",
    # An object that says nothing of its stack would make the loader ask for an executable one.
    "-Wl,-z,noexecstack",
)
#: The loader looks into the library's own folder first.
_NEIGHBOUR_OPTIONS = ("-Wl,--enable-new-dtags", f"-Wl,-rpath,{ORIGIN}")
#: Code reaches the tables behind it by 32-bit offsets. Weights of this size or more may not lie between them.
_FAR_BYTES = 2**30
#: More than the objects of any model known here take, weights aside.
_OBJECT_BYTES = 32 << 20
#: Code finds the weights by 64-bit addresses alone; they go to the end of the library.
_WEIGHTS_LAST = f"SECTIONS {{ {SECTION} : {{ *({SECTION}) }} }} INSERT AFTER .bss;\n"


def export_objects(executable: Any, folder: Path) -> list[Path]:
    """Write the object files of a compiled module.

    Args:
        executable: what ``tvm.compile`` returned.
        folder: where to write; it must exist.

    Returns:
        The files (``lib0.o``, ``devc.o``), in the order in which TVM links them.

    Raises:
        CompileError: the module has parts that are no object code.
        OutputError: there is no room in ``folder``.
    """
    _require_room(folder)
    files: list[Path] = []

    def collect(_output: str, members: list[str], **_options: Any) -> None:
        files.extend(Path(member) for member in members)

    collect.object_format = "o"  # type: ignore[attr-defined]
    executable.export_library(str(folder / "library.so"), fcompile=collect, workspace_dir=str(folder))
    foreign = [file.name for file in files if file.suffix != ".o"]
    if foreign:
        raise CompileError(
            f"TVM made {', '.join(foreign)} where only object code can be linked.", "Report this as a bug of tvmbuild."
        )
    return files


def _require_room(folder: Path) -> None:
    """Check that objects can be written: LLVM ends the whole process when it cannot."""
    trial = folder / "room"
    try:
        with trial.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, _OBJECT_BYTES)
    except OSError as error:
        raise OutputError(
            f"There is no room for object code in {folder}: {error.strerror}.",
            f"Free {_OBJECT_BYTES >> 20} MiB there, or point TMPDIR at another folder.",
        ) from error
    finally:
        trial.unlink(missing_ok=True)


def link_library(
    objects: Sequence[Path], output: Path, target: Target, toolchain: Toolchain, neighbours: Sequence[Path] = ()
) -> ElfFacts:
    """Link object files to a shared library and check that the target can load it.

    The same objects give the same bytes, wherever and whenever they are linked.

    Args:
        objects: what it is made of.
        output: the library, in a folder that nobody else reads yet: only a full disk leaves a part of it there.
        target: what has to load it.
        toolchain: of the target.
        neighbours: libraries that it refers to; they have to lie in its folder.

    Returns:
        What the library needs.

    Raises:
        CompileError: the linker refused the objects.
        IncompatibleLibraryError: the library would not load on the target.
        OutputError: ``output`` cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="tvmbuild-link-") as folder:
        linked = Path(folder) / output.name
        options = [*_LINK_OPTIONS, *old_libm_options(target, toolchain), *_far_options(objects, Path(folder))]
        options += _NEIGHBOUR_OPTIONS if neighbours else ()
        # The code comes first, as TVM has it; whoever lists the objects, the library is the same.
        ordered = sorted(objects, key=lambda path: (path.name != "lib0.o", path.name))
        inputs = map(str, [*ordered, *neighbours])
        run_compiler([*toolchain.linker, *options, "-o", str(linked), *inputs, "-lm"], f"the library {output.name}")
        facts = check_compatible(linked, target, (*BASE_LIBRARIES, *(path.name for path in neighbours)))
        _place(linked, output)
    return facts


def link_data(data: Path, output: Path, target: Target, toolchain: Toolchain) -> None:
    """Link an object of nothing but data to a shared library that others find by its file's name.

    Raises:
        As ``link_library``.
    """
    with tempfile.TemporaryDirectory(prefix="tvmbuild-link-") as folder:
        linked = Path(folder) / output.name
        # Nothing starts or ends with it; the loader knows it by its name.
        options = [*_LINK_OPTIONS, "-nostdlib", f"-Wl,-soname,{output.name}"]
        run_compiler([*toolchain.linker, *options, "-o", str(linked), str(data)], f"the library {output.name}")
        check_compatible(linked, target)
        _place(linked, output)


def _place(linked: Path, output: Path) -> None:
    with _explained(output):
        shutil.copyfile(linked, output)
        output.chmod(0o755)


def _far_options(objects: Sequence[Path], folder: Path) -> list[str]:
    if sum(path.stat().st_size for path in objects) < _FAR_BYTES:
        return []
    script = folder / "weights-last.ld"
    script.write_text(_WEIGHTS_LAST, encoding="utf-8")
    return [f"-Wl,-T,{script}"]


def write_library_tar(objects: Sequence[Path], output: Path) -> None:
    """Pack object files into the ``.tar`` that ``tvm.runtime.load_module`` loads.

    Unlike TVM's own, its bytes depend on the objects alone: fixed times, owners, modes and order, no compression
    (whose bytes differ from one zlib to the next).

    Args:
        objects: what it is made of.
        output: the archive, in a folder that nobody else reads yet.

    Raises:
        OutputError: ``output`` cannot be written.
    """
    with _explained(output), tarfile.open(output, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(objects, key=lambda path: path.name):
            content = path.read_bytes()
            member = tarfile.TarInfo(path.name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}.",
            "Choose another folder with -o, or free some space.",
        ) from error

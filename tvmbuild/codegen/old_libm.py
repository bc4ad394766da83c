"""Link kernels for an older glibc than the build machine's.

GCC links each mathematical function to its newest version (``exp@GLIBC_2.29``, ``fmodf@GLIBC_2.38``), though every
glibc still has the older ones. A stub libm, with nothing but the names and the versions that the target has, makes the
linker choose those.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection

from tvmbuild.codegen.elf import version_key
from tvmbuild.codegen.toolchain import Toolchain, run_compiler
from tvmbuild.support.cache import cached_folder
from tvmbuild.target.target import Target

_PREFIX = "GLIBC_"


def old_libm_options(target: Target, toolchain: Toolchain) -> list[str]:
    """Return linker options after which ``-lm`` means the target's glibc; none when it does so anyway.

    Raises:
        CompileError: the toolchain could not make the stub.
        OutputError: the cache cannot be written.
    """
    if toolchain.links_old_glibc:
        return []
    libm = _libm_of(toolchain)
    if libm is None:
        return []
    versions = function_versions(libm)
    newest = max((version for each in versions.values() for version in each), key=version_key, default="0")
    if version_key(newest) <= version_key(target.glibc):
        return []
    chosen = choose_versions(versions, target.glibc)
    assembly, script = _assembly(chosen), _version_script(chosen)
    key = hashlib.sha256(f"{assembly}\0{script}\0{toolchain.version}".encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        source, map_file = folder / "libm.s", folder / "libm.map"
        source.write_text(assembly, encoding="utf-8")
        map_file.write_text(script, encoding="utf-8")
        options = ["-shared", "-nostdlib", "-Wl,-soname,libm.so.6", f"-Wl,--version-script={map_file}"]
        command = [*toolchain.linker, *options, "-o", str(folder / "libm.so"), str(source)]
        run_compiler(command, "the stub of libm")

    return [f"-L{cached_folder(f'libm-{target.arch}-{target.glibc}-{key}', make)}"]


def choose_versions(versions: Mapping[str, Iterable[str]], glibc: str) -> dict[str, str]:
    """Return for each function its newest version that a glibc has; functions that it lacks are left out.

    Args:
        versions: the versions ("2.29") of each function.
        glibc: the glibc to link for ("2.31").
    """
    limit = version_key(glibc)
    chosen = {}
    for name, each in versions.items():
        old = [version for version in each if version_key(version) <= limit]
        if old:
            chosen[name] = max(old, key=version_key)
    return chosen


def function_versions(library: Path) -> dict[str, set[str]]:
    """Return the glibc versions ("2.29") in which a shared library defines each of its functions."""
    found: dict[str, set[str]] = {}
    with library.open("rb") as stream:
        elf = ELFFile(stream)
        sections = list(elf.iter_sections())
        numbers = {
            definition["vd_ndx"]: next(iter(names)).name
            for section in sections
            if isinstance(section, GNUVerDefSection)
            for definition, names in section.iter_versions()
        }
        for table in (section for section in sections if isinstance(section, GNUVerSymSection)):
            symbols = elf.get_section(table["sh_link"])
            for index, entry in enumerate(table.iter_symbols()):
                symbol = symbols.get_symbol(index)
                number = entry["ndx"]
                name = numbers.get(number & 0x7FFF, "") if isinstance(number, int) else ""
                is_function = symbol["st_info"]["type"] in ("STT_FUNC", "STT_GNU_IFUNC", "STT_LOOS")
                if is_function and symbol["st_shndx"] != "SHN_UNDEF" and name.startswith(_PREFIX):
                    found.setdefault(symbol.name, set()).add(name.removeprefix(_PREFIX))
    return found


def _libm_of(toolchain: Toolchain) -> Path | None:
    """Return the libm that the toolchain links to, or None when it does not tell."""
    command = [*toolchain.linker, "-print-file-name=libm.so.6"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    path = Path(done.stdout.strip())
    return path if path.is_absolute() and path.is_file() else None


def _assembly(chosen: Mapping[str, str]) -> str:
    lines = [".text"]
    for name in sorted(chosen):
        lines += [f".globl {name}", f".type {name}, %function", f"{name}:"]
    return "\n".join([*lines, ".byte 0", '.section .note.GNU-stack,"",%progbits', ""])


def _version_script(chosen: Mapping[str, str]) -> str:
    text = ""
    for version in sorted(set(chosen.values()), key=version_key):
        names = "; ".join(sorted(name for name, of in chosen.items() if of == version))
        text += f"{_PREFIX}{version} {{ global: {names}; }};\n"
    return text

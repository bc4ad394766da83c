"""Which PrimFunc a piece of a compiled library belongs to."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from tvmbuild.support.errors import ArtifactError

#: TVM compiles a PrimFunc `f` into `__tvm_ffi_f`, which checks its arguments, and the local `f_compute_`.
_ENTRY = re.compile(r"^__tvm_ffi_(?P<name>.+)$")
_COMPUTE = re.compile(r"^(?P<name>.+)_compute_(?:\.\d+)?$")


@dataclass(frozen=True)
class SymbolMap:
    """The functions of a library and how its file is laid out in memory.

    Attributes:
        segments: (file offset, size, address) of each loaded segment, in bytes.
        addresses: start of each function, ascending.
        names: PrimFunc (or, for other functions, symbol) of each.
        ends: end of each.
        is_kernel: whether it belongs to a PrimFunc.
    """

    segments: tuple[tuple[int, int, int], ...]
    addresses: tuple[int, ...]
    ends: tuple[int, ...]
    names: tuple[str, ...]
    is_kernel: tuple[bool, ...]

    def function_at(self, offset: int) -> str:
        """Return the PrimFunc that the code at an offset of the file belongs to.

        The bodies of parallel loops become functions without a symbol (LLVM's private linkage), which LLVM places
        behind the function that launches them: code in no symbol belongs to the PrimFunc before it.
        """
        address = next((offset - at + start for at, size, start in self.segments if at <= offset < at + size), offset)
        index = bisect_right(self.addresses, address) - 1
        if index >= 0 and address >= self.ends[index]:
            while index >= 0 and not self.is_kernel[index]:
                index -= 1
        return self.names[index] if index >= 0 else ""


def read_symbols(library: Path) -> SymbolMap:
    """Read the functions of an ELF library.

    Raises:
        ArtifactError: it is no ELF file, or has no symbol of a PrimFunc's body (it was stripped).
    """
    try:
        with library.open("rb") as file:
            elf = ELFFile(file)
            segments = tuple(
                (segment["p_offset"], segment["p_filesz"], segment["p_vaddr"])
                for segment in elf.iter_segments()
                if segment["p_type"] == "PT_LOAD"
            )
            functions = {
                (symbol["st_value"], symbol["st_size"], symbol.name)
                for section in (elf.get_section_by_name(".symtab"), elf.get_section_by_name(".dynsym"))
                if section is not None
                for symbol in section.iter_symbols()
                if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] != "SHN_UNDEF"
            }
    except (OSError, ELFError) as error:
        raise ArtifactError(f"{library} cannot be read as an ELF library: {error}.") from error
    if not any(_COMPUTE.match(name) for _, _, name in functions):
        raise ArtifactError(
            f"{library} has no local symbols, so its kernels cannot be told apart.",
            "Predict with the library as it was linked, before `strip`.",
        )
    return symbol_map(segments, sorted(functions))


def symbol_map(segments: tuple[tuple[int, int, int], ...], functions: list[tuple[int, int, str]]) -> SymbolMap:
    """Build the map from (address, size, symbol) of each function, ascending."""
    matches = [_COMPUTE.match(name) or _ENTRY.match(name) for _, _, name in functions]
    return SymbolMap(
        segments=segments,
        addresses=tuple(address for address, _, _ in functions),
        ends=tuple(address + size for address, size, _ in functions),
        names=tuple(match["name"] if match else name for match, (_, _, name) in zip(matches, functions, strict=True)),
        is_kernel=tuple(match is not None for match in matches),
    )

"""The manifest inside a library: an object file that is linked in with the code.

The object holds one read-only data section, ``.tvmbuild.manifest``, and the symbol ``tvmbuild_manifest`` at its start:
the JSON text, ended by a zero byte. Every linker takes it, so the .tar stays loadable as it is, and a C program that
has loaded the .so finds the text with ``dlsym``. The file is written here, since no compiler promises the same bytes
tomorrow.

ELF's form: System V ABI, chapter 4 (https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.intro.html).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

from elftools.elf.elffile import ELFFile

from tvmbuild.support.errors import ArtifactError, CompileError

SECTION = ".tvmbuild.manifest"
SYMBOL = "tvmbuild_manifest"
#: Name of the object in the .tar.
OBJECT_NAME = "manifest.o"
#: No manifest comes near; a damaged file must not make a reader fill the memory.
LARGEST = 64 << 20

#: Fields of the file header behind its first 16 bytes, of a section header and of a symbol, 64 bits, little endian.
_FILE_HEADER = struct.Struct("<HHIQQQIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ELF64_LITTLE = b"\x7fELF\x02\x01"
_RELOCATABLE, _PROGBITS, _SYMTAB, _STRTAB, _ALLOCATED = 1, 1, 2, 3, 2
_GLOBAL_OBJECT = 0x11
_HEADER_BYTES = 16 + _FILE_HEADER.size


def write_manifest_object(text: str, beside: Path) -> Path:
    """Write the object that carries a manifest.

    Args:
        text: the manifest, as JSON.
        beside: an object of the library that it will be part of; the new one is for the same machine, in its folder.

    Returns:
        The file, ``manifest.o``.

    Raises:
        CompileError: the other object is not for a 64-bit little-endian machine.
    """
    with beside.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    if len(start) < _HEADER_BYTES or not start.startswith(_ELF64_LITTLE):
        raise CompileError(
            f"{beside.name} is no ELF object of a 64-bit little-endian machine, so it cannot carry a manifest.",
            "Build for aarch64 or x86_64.",
        )
    fields = _FILE_HEADER.unpack(start[16:])
    path = beside.with_name(OBJECT_NAME)
    path.write_bytes(manifest_object(text, machine=fields[1], flags=fields[6]))
    return path


def manifest_object(text: str, machine: int, flags: int = 0) -> bytes:
    """Return the bytes of the object that carries a manifest.

    Args:
        text: the manifest, as JSON.
        machine: ELF's number of the machine (183 is aarch64, 62 x86-64).
        flags: the machine's own flags (``e_flags``).
    """
    content = text.encode() + b"\0"
    names = b"\0" + b"\0".join(
        name.encode() for name in (SECTION, ".note.GNU-stack", ".symtab", ".strtab", ".shstrtab")
    )
    names += b"\0"
    symbol_names = b"\0" + SYMBOL.encode() + b"\0"
    symbols = bytes(_SYMBOL.size) + _SYMBOL.pack(1, _GLOBAL_OBJECT, 0, 1, 0, len(content))
    body = bytearray()
    # The linker makes a stack executable unless every object has the (empty) section .note.GNU-stack.
    sections = [
        (SECTION, _PROGBITS, _ALLOCATED, content, 0, 0, 16, 0),
        (".note.GNU-stack", _PROGBITS, 0, b"", 0, 0, 1, 0),
        (".symtab", _SYMTAB, 0, symbols, 4, 1, 8, _SYMBOL.size),
        (".strtab", _STRTAB, 0, symbol_names, 0, 0, 1, 0),
        (".shstrtab", _STRTAB, 0, names, 0, 0, 1, 0),
    ]
    headers = bytes(_SECTION_HEADER.size)
    for name, kind, attributes, data, link, info, alignment, entry in sections:
        body += bytes(-(_HEADER_BYTES + len(body)) % alignment)
        offset = _HEADER_BYTES + len(body)
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        headers += _SECTION_HEADER.pack(at, kind, attributes, 0, offset, len(data), link, info, alignment, entry)
        body += data
    body += bytes(-(_HEADER_BYTES + len(body)) % 8)
    table = _HEADER_BYTES + len(body)
    count = len(sections) + 1
    header = _ELF64_LITTLE + b"\x01" + bytes(9)
    sizes = (_HEADER_BYTES, 0, 0, _SECTION_HEADER.size, count, count - 1)
    return bytes(header + _FILE_HEADER.pack(_RELOCATABLE, machine, 1, 0, 0, table, flags, *sizes) + body + headers)


def read_embedded(stream: IO[bytes], name: str) -> str:
    """Return the manifest inside a library or object.

    Args:
        stream: the file, seekable.
        name: what to call it in errors.

    Raises:
        ArtifactError: it is no ELF file, carries no manifest, or a damaged one.
    """
    try:
        section = ELFFile(stream).get_section_by_name(SECTION)
        if section is None:
            raise ArtifactError(f"{name} carries no manifest of tvmbuild.", "Build it with 'tvmbuild build'.")
        if section["sh_type"] != "SHT_PROGBITS" or section["sh_size"] > LARGEST:
            raise ValueError(f"its section {SECTION} is not what it should be")
        content = section.data()
        return bytes(content).partition(b"\0")[0].decode()
    except ArtifactError:
        raise
    # For some damaged files pyelftools lets other errors through than its own, failed assertions among them.
    except Exception as error:
        raise ArtifactError(
            f"{name} is damaged: no manifest can be read from it ({error}).", "Copy it again, or build it again."
        ) from error

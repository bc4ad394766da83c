"""The weights as object files: read-only data of the library, and the function by which the bytecode finds them.

The kernels read the weights where the library lies in memory: its pages come from the file when they are first read,
processes share them, and a system that is short of memory drops them without a swap.

``weights.o`` holds the data, each weight under a symbol that is named for its contents; ``tensors.o`` holds shapes,
types and the function, and refers to these symbols. So the libraries of several boards may be linked to one copy
(``release.shared_weights``).

The function follows tvm-ffi's calling convention (``TVMFFISafeCallType`` of tvm/ffi/c_api.h), and returns a pointer to
a ``DLTensor`` (dlpack.h), which owns nothing. It needs no library. Both structures are written out in the source, so
that no header has to be there.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.elf.elffile import ELFFile

from tvmbuild.codegen.toolchain import Toolchain, run_compiler
from tvmbuild.graph.weights import FETCH
from tvmbuild.support.escape import assembler_string, c_string

if TYPE_CHECKING:
    import numpy as np

#: Name of the object with the data in the .tar, and of the one with the tensors.
OBJECT_NAME = "weights.o"
TENSORS_NAME = "tensors.o"
#: The section of the data.
SECTION = ".tvmbuild.weights"
#: Starts the symbol of a weight; the SHA-256 of its bytes follows.
SYMBOL_PREFIX = "tvmbuild_weight_"
#: What TVM's kernels assume of a tensor's address.
_ALIGNMENT = 64
#: DLPack's codes of element types by NumPy's kinds.
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_DIGEST = re.compile("[0-9a-f]{64}")
_OPTIONS = ("-c", "-O2", "-fPIC", "-fno-exceptions", "-fno-asynchronous-unwind-tables", "-g0")

#: One weight; a hidden symbol is seen within the library alone.
_WEIGHT = """\
asm(".pushsection {section},\\"a\\",%progbits\\n"
    ".balign {alignment}\\n"
    ".globl {symbol}\\n"
    ".{visibility} {symbol}\\n"
    ".type {symbol}, %object\\n"
    ".size {symbol}, {bytes}\\n"
    "{symbol}:\\n"
    ".incbin " {path} ", {offset}, {bytes}\\n"
    ".popsection\\n");
"""

_TENSORS = """\
#include <cstdint>

namespace {{

struct Tensor {{  // DLTensor
  const void* data;
  int32_t device_type, device_id, rank;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t *shape, *strides;
  uint64_t byte_offset;
}};

struct Any {{  // TVMFFIAny
  int32_t type_index;
  uint32_t zero_padding;
  union {{
    int64_t integer;
    const Tensor* tensor;
  }};
}};

constexpr int32_t kCpu = 1, kTensorPointer = 7;

}}  // namespace

extern "C" const char {symbols};

static const int64_t sizes[] = {{{sizes}}};
static const Tensor tensors[] = {{
{tensors}
}};

extern "C" __attribute__((visibility("default"))) int __tvm_ffi_{fetch}(void*, const Any* arguments, int32_t,
                                                                        Any* result) {{
  result->type_index = kTensorPointer;
  result->zero_padding = 0;
  result->tensor = &tensors[arguments[0].integer];
  return 0;
}}
"""


@dataclass(frozen=True)
class StoredWeight:
    """A weight's bytes in a file.

    Attributes:
        digest: SHA-256 of the bytes.
        path: the file.
        offset: where they start in it.
        bytes: how many.
    """

    digest: str
    path: Path
    offset: int
    bytes: int


def compile_weights(weights: Sequence[np.ndarray[Any, Any]], folder: Path, toolchain: Toolchain) -> list[Path]:
    """Write the objects that hold a model's weights.

    Args:
        weights: contiguous arrays in the order of their numbers (``graph.weights``).
        folder: where to write; it must exist.
        toolchain: of the target.

    Returns:
        ``weights.o`` and ``tensors.o``; nothing where there are no weights.

    Raises:
        CompileError: the compiler failed.
    """
    if not weights:
        return []
    data, source, tensors = folder / "weights.bin", folder / "tensors.cc", folder / TENSORS_NAME
    digests = [hashlib.sha256(weight.data).hexdigest() for weight in weights]
    stored: dict[str, StoredWeight] = {}
    with data.open("wb") as stream:
        for digest, weight in zip(digests, weights, strict=True):
            if digest not in stored:
                stored[digest] = StoredWeight(digest, data, stream.tell(), weight.nbytes)
                stream.write(weight.data)
    compile_data(list(stored.values()), folder / OBJECT_NAME, toolchain)
    data.unlink()
    source.write_text(_tensors_source(weights, digests), encoding="utf-8")
    run_compiler([*toolchain.cxx, *_OPTIONS, "-o", str(tensors), str(source)], "the object of the tensors")
    return [folder / OBJECT_NAME, tensors]


def compile_data(weights: Sequence[StoredWeight], output: Path, toolchain: Toolchain, *, visible: bool = False) -> None:
    """Write an object with nothing but weights.

    Args:
        weights: what it holds, in this order.
        output: the object.
        toolchain: of the target.
        visible: whether other libraries than the one it becomes part of may refer to them.

    Raises:
        CompileError: the compiler failed.
    """
    source = output.with_suffix(".cc")
    visibility = "protected" if visible else "hidden"
    with source.open("w", encoding="utf-8") as stream:
        for weight in weights:
            symbol = f"{SYMBOL_PREFIX}{weight.digest}"
            path = c_string(assembler_string(str(weight.path)))
            place = {"path": path, "offset": weight.offset, "bytes": weight.bytes}
            stream.write(
                _WEIGHT.format(section=SECTION, alignment=_ALIGNMENT, symbol=symbol, visibility=visibility, **place)
            )
    run_compiler([*toolchain.cxx, *_OPTIONS, "-o", str(output), str(source)], "the object of the weights")


def stored_weights(path: Path) -> list[StoredWeight]:
    """Return the weights in an object that ``compile_data`` wrote, in their order.

    Raises:
        ValueError: it is no such object, or a damaged one.
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            section, table = elf.get_section_by_name(SECTION), elf.get_section_by_name(".symtab")
            start, size = section["sh_offset"], section["sh_size"]
            found = [
                StoredWeight(
                    symbol.name.removeprefix(SYMBOL_PREFIX), path, start + symbol["st_value"], symbol["st_size"]
                )
                for symbol in table.iter_symbols()
                if symbol.name.startswith(SYMBOL_PREFIX)
            ]
    # For some damaged files pyelftools lets other errors through than its own, failed assertions among them.
    except Exception as error:
        raise ValueError(f"{path.name} is no whole object of weights ({error})") from error
    # The names of symbols are written into sources again.
    if not all(_DIGEST.fullmatch(weight.digest) for weight in found):
        raise ValueError(f"{path.name} names a weight by something else than its SHA-256")
    if not found or any(weight.offset + weight.bytes > start + size for weight in found):
        raise ValueError(f"{path.name} has no weights, or some that lie outside its section")
    return sorted(found, key=lambda weight: weight.offset)


def _tensors_source(weights: Sequence[np.ndarray[Any, Any]], digests: Sequence[str]) -> str:
    sizes: list[int] = []
    tensors = []
    for weight, digest in zip(weights, digests, strict=True):
        shape = len(sizes)
        strides = shape + weight.ndim
        sizes += [*weight.shape, *(math.prod(weight.shape[axis + 1 :]) for axis in range(weight.ndim))]
        element = f"{_CODES[weight.dtype.kind]}, {weight.dtype.itemsize * 8}, 1"
        where = f"{SYMBOL_PREFIX}{digest}, kCpu, 0, {weight.ndim}"
        tensors.append(f"    {{{where}, {element}, sizes + {shape}, sizes + {strides}, 0}},")
    return _TENSORS.format(
        symbols=", ".join(f"{SYMBOL_PREFIX}{digest}[]" for digest in dict.fromkeys(digests)),
        sizes=", ".join(map(str, sizes)),
        tensors="\n".join(tensors),
        fetch=FETCH,
    )

"""The weights as an object file: read-only data of the library, and the function by which the bytecode finds them.

The kernels read the weights where the library lies in memory: its pages come from the file when they are first read,
processes share them, and a system that is short of memory drops them without a swap.

The function follows tvm-ffi's calling convention (``TVMFFISafeCallType`` of tvm/ffi/c_api.h), and returns a pointer to
a ``DLTensor`` (dlpack.h), which owns nothing. It needs no library. Both structures are written out in the source, so
that no header has to be there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmbuild.graph.weights import FETCH
from tvmbuild.toolchain import Toolchain, run_compiler

if TYPE_CHECKING:
    import numpy as np

#: Name of the object in the .tar.
OBJECT_NAME = "weights.o"
#: The section of the data.
SECTION = ".tvmbuild.weights"
#: What TVM's kernels assume of a tensor's address.
_ALIGNMENT = 64
#: DLPack's codes of element types by NumPy's kinds.
_CODES = {"i": 0, "u": 1, "f": 2, "b": 6}
_OPTIONS = ("-c", "-O2", "-fPIC", "-fno-exceptions", "-fno-asynchronous-unwind-tables", "-g0")

_SOURCE = """\
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

asm(".pushsection {section},\\"a\\",%progbits\\n"
    ".balign {alignment}\\n"
    ".globl tvmbuild_weights\\n"
    ".hidden tvmbuild_weights\\n"
    "tvmbuild_weights:\\n"
    ".incbin \\"{data}\\"\\n"
    ".popsection\\n");

extern "C" __attribute__((visibility("hidden"))) const char tvmbuild_weights[];

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


def compile_weights(weights: Sequence[np.ndarray[Any, Any]], folder: Path, toolchain: Toolchain) -> list[Path]:
    """Write the object that holds a model's weights.

    Args:
        weights: contiguous arrays in the order of their numbers (``graph.weights``).
        folder: where to write; it must exist.
        toolchain: of the target.

    Returns:
        The object, ``weights.o``; nothing where there are no weights.

    Raises:
        CompileError: the compiler failed.
    """
    if not weights:
        return []
    data, source, output = folder / "weights.bin", folder / "weights.cc", folder / OBJECT_NAME
    offsets = []
    with data.open("wb") as stream:
        for weight in weights:
            stream.write(bytes(-stream.tell() % _ALIGNMENT))
            offsets.append(stream.tell())
            stream.write(weight.data)
    source.write_text(_source(weights, offsets, data), encoding="utf-8")
    run_compiler([*toolchain.cxx, *_OPTIONS, "-o", str(output), str(source)], "the object of the weights")
    data.unlink()
    return [output]


def _source(weights: Sequence[np.ndarray[Any, Any]], offsets: Sequence[int], data: Path) -> str:
    sizes: list[int] = []
    tensors = []
    for weight, offset in zip(weights, offsets, strict=True):
        shape = len(sizes)
        strides = shape + weight.ndim
        sizes += [*weight.shape, *(math.prod(weight.shape[axis + 1 :]) for axis in range(weight.ndim))]
        element = f"{_CODES[weight.dtype.kind]}, {weight.dtype.itemsize * 8}, 1"
        where = f"tvmbuild_weights + {offset}, kCpu, 0, {weight.ndim}"
        tensors.append(f"    {{{where}, {element}, sizes + {shape}, sizes + {strides}, 0}},")
    return _SOURCE.format(
        section=SECTION,
        alignment=_ALIGNMENT,
        data=data,
        sizes=", ".join(map(str, sizes)),
        tensors="\n".join(tensors),
        fetch=FETCH,
    )

"""Runs one net in ncnn on the emulated core, as ncnn's benchncnn does: zero weights, a constant input, light mode.

Started by ``board.py``: ``python -S guest.py EXTENSION NET.param SIZE THREADS``. It imports nothing of this project.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

# As in native/qemu_plugin/block_profile.c.
MARKER_CALL, MARKER_START, MARKER_STOP = 0x7B70, 1, 2
#: What benchncnn fills its inputs with.
INPUT = 0.01


def main() -> None:
    """Load the net, then mark one inference."""
    extension, param, size, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ncnn = _load(extension)
    net = ncnn.Net()
    allocators = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
    _set_options(net.opt, threads, *allocators)
    weights = ncnn.DataReaderFromEmpty()
    if net.load_param(param) != 0 or net.load_model(weights) != 0:
        sys.exit(f"ncnn cannot load {param}")
    picture = ncnn.Mat(size, size, 3)
    picture.fill(INPUT)
    _mark(MARKER_START)
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], picture)
    failed, _ = extractor.extract(net.output_names()[0])
    _mark(MARKER_STOP)
    if failed:
        sys.exit(f"ncnn cannot run {param}")
    # ncnn's allocators complain, and crash, if Python frees them before what they allocated.
    os._exit(0)


def _load(extension: str) -> Any:
    # Not `import ncnn`: the package around the extension needs NumPy.
    loader = importlib.machinery.ExtensionFileLoader("ncnn", extension)
    spec = importlib.util.spec_from_loader("ncnn", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _set_options(options: Any, threads: int, blobs: Any, workspace: Any) -> None:
    options.lightmode = True
    options.num_threads = threads
    options.blob_allocator, options.workspace_allocator = blobs, workspace
    for name in (
        "use_winograd_convolution", "use_sgemm_convolution", "use_int8_inference", "use_fp16_packed",
        "use_fp16_storage", "use_fp16_arithmetic", "use_int8_storage", "use_int8_arithmetic", "use_packing_layout",
    ):  # fmt: skip
        setattr(options, name, True)
    options.use_vulkan_compute = False


def _mark(command: int) -> None:
    ctypes.CDLL(None).syscall(ctypes.c_long(MARKER_CALL), ctypes.c_long(command), ctypes.c_long(0))


if __name__ == "__main__":
    main()

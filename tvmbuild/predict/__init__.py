"""Predicted instructions, cycles and memory traffic of a compiled model on a target's cores, with no board.

The steps, one module each: build QEMU's plugin (``plugin``), run the model under it (``predictor``), read which blocks
of code ran how often (``profile``), disassemble and price them with LLVM (``llvm``, ``superblocks``, ``pricing``),
charge for computing and lines (``costs``), add up by PrimFunc (``symbols``, ``kernels``), show it (``report``).
"""

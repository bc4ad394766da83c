"""Predicted instructions and cycles of a compiled model on a target's core, with no board.

The steps, one module each: build QEMU's plugin (``plugin``), run the model under it (``predictor``), read which blocks
of code ran how often (``profile``), disassemble and price them with LLVM (``llvm``, ``superblocks``, ``pricing``), add
them up by PrimFunc (``symbols``, ``kernels``), show them (``report``).
"""

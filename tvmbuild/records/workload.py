"""The identity of a kernel: what its PrimFunc computes, whatever it is called and in whichever model it stands."""

from __future__ import annotations

from typing import Any


def workload_module(func: Any) -> Any:
    """Return a PrimFunc as the module ``main`` that MetaSchedule calls a workload (imports tvm)."""
    import tvm

    return tvm.IRModule({"main": func.with_attr("global_symbol", "main")})


def private_copy(func: Any) -> Any:
    """Return a PrimFunc that shares nothing with the original: a TVM schedule changes shared parts in place."""
    import tvm

    return tvm.ir.load_json(tvm.ir.save_json(func))


def workload_key(func: Any) -> str:
    """Return the structural hash of a PrimFunc before scheduling, as 16 hexadecimal digits (imports tvm)."""
    import tvm_ffi

    return f"{tvm_ffi.structural_hash(workload_module(func)) & 0xFFFFFFFFFFFFFFFF:016x}"

"""Read the planned memory off a module."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvmbuild.graph.report import MemoryPlan
from tvmbuild.graph.rewriter import MAIN, IRModule, is_constant, op_name


def read_plan(mod: IRModule) -> MemoryPlan:
    """Return the plan of a module as it is after StaticPlanBlockMemory.

    Storage that is allocated outside the arena belongs to outputs: their life does not end with the inference.
    """
    arena = naive = outputs = 0
    constants: dict[int, int] = {}
    for block in mod[MAIN].body.blocks:
        for binding in block.bindings:
            value = binding.value
            name = op_name(value)
            if name == "memory.alloc_storage":
                arena += int(value.args[0].values[0])
            elif name == "memory.alloc_tensor":
                naive += _tensor_bytes(value.args[2].values, str(value.args[3].value))
            elif name == "builtin.alloc_tensor":
                outputs += _tensor_bytes(value.args[0].values, str(value.args[1].value))
            for constant in _constants(value):
                constants[hash(constant.value)] = _tensor_bytes(constant.ty.shape, str(constant.ty.dtype))
    return MemoryPlan(arena, naive, outputs, sum(constants.values()))


def _tensor_bytes(shape: Any, dtype: str) -> int:
    elements = int(np.prod([int(size) for size in shape], dtype=np.int64))
    return elements * np.dtype(dtype).itemsize


def _constants(value: Any) -> list[Any]:
    if not isinstance(value, relax.Call):
        return []
    found = []
    for arg in value.args:
        fields = arg.fields if isinstance(arg, relax.Tuple) else (arg,)
        found += [field for field in fields if is_constant(field)]
    return found

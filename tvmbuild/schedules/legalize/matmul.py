"""Turns ``relax.matmul`` into our compute; a constant right factor is packed now, another one at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvmbuild.schedules.gemm import compute as tiled_compute
from tvmbuild.schedules.gemm.compute import TilePlan
from tvmbuild.schedules.gemm.packing import pack_matrix
from tvmbuild.schedules.gemm.tile_plan import plan_matmul
from tvmbuild.schedules.gemm.tiled import PARALLEL_MACS
from tvmbuild.schedules.gemm.widening import Tiles, plan_widening
from tvmbuild.schedules.legalize.relax_calls import (
    call_compute,
    constant_value,
    dtype_of,
    is_float,
    static_shape,
    stock_legalization,
)
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.target.target import Target


def legalize(builder: Any, call: Any, target: Target, storage: Storage | None = None) -> Any:
    """Legalize a matrix product; one of vectors, of dynamic shape or with broadcast leading axes stays TVM's."""
    left, right = call.args
    left_shape, right_shape = static_shape(left), static_shape(right)
    if left_shape is None or right_shape is None or len(left_shape) < 2 or len(right_shape) < 2:
        return stock_legalization(builder, call)
    if not is_float(call) or 0 in left_shape + right_shape:
        return stock_legalization(builder, call)
    *leading, rows, depth = left_shape
    columns = right_shape[-1]
    shared = math.prod(right_shape[:-2]) == 1 and len(right_shape) <= len(left_shape)
    if not shared and list(right_shape[:-2]) != leading:
        return stock_legalization(builder, call)
    plan = plan_matmul(rows, depth, columns, target, dtype_of(left))
    count = f"{math.prod(leading)}x" if leading else ""
    workload = f"matmul {count}{rows}x{depth} by {depth}x{columns}"
    constant = constant_value(right)
    if shared and constant is not None:
        matrix, storage = constant.reshape(depth, columns), storage or Storage()
        packed = pack_matrix(matrix, plan.tile.channels)
        half, reason = storage.form(matrix.T, target, lambda: widening_cycles(left_shape, packed.shape, plan, target))
        return call_compute(
            builder,
            lambda a, b: tiled_compute.matmul(a, b, columns, plan, workload),
            left,
            storage.constant(packed, half, workload, "matmul", matrix.size, reason),
            name="matmul",
        )

    def packed_at_run_time(a: Any, b: Any) -> Any:
        from tvm import topi

        if shared:
            b = topi.reshape(b, (depth, columns)) if len(right_shape) > 2 else b
        return tiled_compute.matmul(a, tiled_compute.pack_right(b, plan.tile.channels), columns, plan, workload)

    return call_compute(builder, packed_at_run_time, left, right, name="matmul")


def widening_cycles(left: Sequence[int], packed: Sequence[int], plan: TilePlan, target: Target) -> float:
    """Return the cycles in which a product widens its right factor, added over the cores.

    Args:
        left: shape of the left factor.
        packed: shape of the packed right factor.
        plan: the tiles.
        target: the board.
    """
    blocks, depth, channels = packed
    tiles = Tiles.of((*left[:-2], plan.columns, blocks, channels), (depth,), plan.tile, target)
    return plan_widening(tiles, target, math.prod(left) * blocks * channels >= PARALLEL_MACS).extra

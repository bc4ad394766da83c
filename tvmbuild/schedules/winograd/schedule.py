"""Schedule of Winograd convolutions (see ``winograd.compute``).

    for tile of the chunk, vector of channels:            # the input transform
        columns[i, j] = transform down(padded)            # written out
        inputs[i, j] = transform across(columns)          # written out
    products                                              # see gemm.transformed, as for the loops around all three
    for tile of the chunk, vector of channels of the group:
        rows[i, j] = transform down(products)             # written out
        for row, column of the tile of outputs:           # written out
            outputs = epilogue(transform across(rows))

Each transform is two passes, down and across, of which the first keeps its results for one tile and vector.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.contracts import WinogradContract
from tvmbuild.schedules.gemm.register_tile import vector_unit
from tvmbuild.schedules.gemm.tiled import schedule_producers
from tvmbuild.schedules.gemm.transformed import (
    Around,
    main_of,
    schedule_products,
    spread_tiles,
    transformed_knobs,
    widest_vector,
)
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.schedule import Schedule, legalized_as
from tvmbuild.schedules.winograd.compute import KIND
from tvmbuild.target.target import Target

__all__ = ["KIND", "SCHEDULE", "apply", "knobs"]

#: Stages of the input transform.
_TRANSFORMS = ("input_columns", "inputs")


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers; see ``transformed.transformed_knobs`` (a row is a row of tiles of outputs)."""
    return transformed_knobs(kernel, target)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a Winograd convolution."""
    main = main_of(kernel)
    lanes = vector_unit(target, main.writes[0].dtype).lanes
    around = _outputs(sch, kernel, main, target, choice)
    inputs = sch.get_sblock("inputs")
    spread_tiles(sch, inputs, main)
    schedule_products(sch, kernel, target, choice, around)
    if around.chunk is not None:
        sch.compute_at(inputs, around.chunk, preserve_unit_loops=True)
    _inputs(sch, inputs, main, lanes, around.split_parallel)
    schedule_producers(sch, [stage for stage in kernel.producers if stage.name not in _TRANSFORMS], lanes)


def _outputs(sch: Any, kernel: Kernel, main: Stage, target: Target, choice: Choice) -> Around:
    """Schedule the output transform with the epilogue in it, and return the loops around all stages."""
    contract = main.contract(WinogradContract)
    m = contract.m
    first, *rest = kernel.epilogue
    for stage in rest[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(rest[-1].name)
    batch, height, width, channel = sch.get_loops(last)
    chunk, in_chunk, row = sch.split(height, [None, choice["chunk"], m])
    across, column = sch.split(width, [None, m])
    lanes = widest_vector(rest[-1].spatial[-1], vector_unit(target, main.writes[0].dtype).lanes)
    grouped = choice["group"] < main.spatial[2]
    in_group = choice["group"] * contract.tile[1] if grouped else rest[-1].spatial[-1]
    group, vectors, lane = sch.split(channel, [None, in_group // lanes, lanes])
    sch.reorder(batch, chunk, group, in_chunk, across, vectors, row, column, lane)
    around = Around.of(sch, [batch, chunk], group, [in_chunk, across], target)
    rows = sch.get_sblock(first.name)
    sch.compute_at(rows, vectors)
    unroll_transform(sch, rows)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)
    return around


def _inputs(sch: Any, block: Any, main: Stage, lanes: int, parallel: bool) -> None:
    """Schedule the input transform: both passes for one tile and one vector of channels at a time."""
    *_, tile, row, column, channel = sch.get_loops(block)
    vectors, lane = sch.split(channel, [None, widest_vector(main.reduction[-1], lanes)])
    sch.reorder(tile, vectors, row, column, lane)
    if parallel:
        sch.parallel(tile)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)
    half = sch.get_sblock("input_columns")
    sch.compute_at(half, vectors)
    unroll_transform(sch, half)


def unroll_transform(sch: Any, block: Any) -> None:
    """Unroll a pass of a transform over its rows and columns, in vectors of channels."""
    *_, row, column, lane = sch.get_loops(block)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)


SCHEDULE = Schedule(KIND, legalized_as(KIND), knobs, apply)

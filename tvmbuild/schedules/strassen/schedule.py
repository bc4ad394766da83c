"""Schedule of 1x1 convolutions by Strassen's algorithm (see ``strassen.compute``).

    for pair of positions of the chunk, vector of channels:
        for product of seven: inputs[pair, product] = sums of the four quarters      # written out
    products                                              # see gemm.transformed, as for the loops around all three
    for pair of positions of the chunk, pair of vectors of channels of the group:
        for position of the pair, vector of the pair:     # written out
            outputs = epilogue(sums of the seven products)

Quarters are halves of the pair of positions by halves of the channels, as the algorithm numbers them.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.contracts import StrassenContract
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
from tvmbuild.schedules.strassen import compute as strassen_compute
from tvmbuild.target.target import Target

KIND = strassen_compute.KIND


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers; see ``transformed.transformed_knobs`` (a row is a row of pairs of positions)."""
    return transformed_knobs(kernel, target)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a convolution by Strassen's algorithm."""
    main = main_of(kernel)
    lanes = vector_unit(target, main.writes[0].dtype).lanes
    around = _outputs(sch, kernel, main, target, choice)
    inputs = sch.get_sblock("inputs")
    spread_tiles(sch, inputs, main)
    schedule_products(sch, kernel, target, choice, around)
    if around.chunk is not None:
        sch.compute_at(inputs, around.chunk, preserve_unit_loops=True)
    *_, pair, position, channel = sch.get_loops(inputs)
    vectors, lane = sch.split(channel, [None, widest_vector(main.reduction[-1], lanes)])
    sch.reorder(pair, vectors, position, lane)
    if around.split_parallel:
        sch.parallel(pair)
    sch.unroll(position)
    sch.vectorize(lane)
    schedule_producers(sch, [stage for stage in kernel.producers if stage.name != "inputs"], lanes)


def _outputs(sch: Any, kernel: Kernel, main: Stage, target: Target, choice: Choice) -> Around:
    """Schedule the transform back with the epilogue in it, and return the loops around all stages."""
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    batch, height, width, channel = sch.get_loops(sch.get_sblock(kernel.last.name))
    contract = main.contract(StrassenContract)
    lanes, (rows, _) = contract.lanes, contract.rows
    chunk, in_chunk = sch.split(height, [None, choice["chunk"] * (kernel.last.spatial[1] // rows)])
    in_chunk, half = sch.split(sch.fuse(in_chunk, width), [None, 2])
    grouped = choice["group"] < main.spatial[2]
    in_group = choice["group"] * contract.tile[1] if grouped else contract.channels
    group, vectors, side, lane = sch.split(channel, [None, in_group // lanes, 2, lanes])
    sch.reorder(batch, chunk, group, in_chunk, vectors, half, side, lane)
    around = Around.of(sch, [batch, chunk], group, [in_chunk], target)
    sch.unroll(half)
    sch.unroll(side)
    sch.vectorize(lane)
    return around


SCHEDULE = Schedule(KIND, legalized_as(KIND), knobs, apply)

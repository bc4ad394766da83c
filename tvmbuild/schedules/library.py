"""The list of schedules, the most specific first: the first whose ``matches`` holds for a kernel is used."""

from __future__ import annotations

from tvmbuild.schedules.gemm import compute as gemm_compute
from tvmbuild.schedules.gemm import tiled as gemm_tiled
from tvmbuild.schedules.int8 import compute as int8_compute
from tvmbuild.schedules.int8 import depthwise as depthwise_int8
from tvmbuild.schedules.int8 import tiled as int8_tiled
from tvmbuild.schedules.loops import data_movement, depthwise, elementwise, pool, reduction
from tvmbuild.schedules.schedule import Schedule, legalized_as
from tvmbuild.schedules.strassen import schedule as strassen
from tvmbuild.schedules.winograd import schedule as winograd

SCHEDULES: tuple[Schedule, ...] = (
    winograd.SCHEDULE,
    strassen.SCHEDULE,
    Schedule(gemm_compute.CONV2D, legalized_as(gemm_compute.CONV2D), gemm_tiled.knobs, gemm_tiled.apply),
    Schedule(int8_compute.CONV2D, legalized_as(int8_compute.CONV2D), int8_tiled.knobs, int8_tiled.apply),
    Schedule(int8_compute.MATMUL, legalized_as(int8_compute.MATMUL), int8_tiled.knobs, int8_tiled.apply),
    depthwise_int8.SCHEDULE,
    Schedule(gemm_compute.MATMUL, legalized_as(gemm_compute.MATMUL), gemm_tiled.knobs, gemm_tiled.apply),
    depthwise.SCHEDULE,
    pool.SCHEDULE,
    reduction.SCHEDULE,
    elementwise.SCHEDULE,
    data_movement.SCHEDULE,
)


def revision(kind: str) -> int:
    """Return the revision of the schedule of a kind ("conv2d.direct"); 1 for a kind that is none any more."""
    return next((schedule.revision for schedule in SCHEDULES if schedule.kind == kind), 1)

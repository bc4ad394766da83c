"""The list of schedules, the most specific first: the first whose ``matches`` holds for a kernel is used."""

from __future__ import annotations

from collections.abc import Mapping

from tvmbuild.schedules.gemm import conv2d_direct, matmul
from tvmbuild.schedules.int8 import conv2d as conv2d_int8
from tvmbuild.schedules.int8 import depthwise as depthwise_int8
from tvmbuild.schedules.int8 import matmul as matmul_int8
from tvmbuild.schedules.loops import data_movement, depthwise, elementwise, pool, reduction
from tvmbuild.schedules.module import ScheduleModule
from tvmbuild.schedules.strassen import schedule as strassen
from tvmbuild.schedules.winograd import schedule as winograd

#: Revision of a schedule, by its kind, where it is not the first: raised whenever ``knobs`` or ``apply`` change what a
#: choice means, so that tuning records made before are known to be stale.
REVISIONS: Mapping[str, int] = {}


def revision(kind: str) -> int:
    """Return the revision of the schedule of a kind ("conv2d.direct")."""
    return REVISIONS.get(kind, 1)


SCHEDULES: tuple[ScheduleModule, ...] = (
    winograd,
    strassen,
    conv2d_direct,
    conv2d_int8,
    matmul_int8,
    depthwise_int8,
    matmul,
    depthwise,
    pool,
    reduction,
    elementwise,
    data_movement,
)

"""The list of schedules, the most specific first: the first whose ``matches`` holds for a kernel is used."""

from __future__ import annotations

from tvmbuild.schedules import (
    conv2d_direct,
    data_movement,
    depthwise,
    elementwise,
    int8_depthwise,
    int8_tiled,
    matmul,
    pool,
    reduction,
    winograd,
)
from tvmbuild.schedules.module import ScheduleModule

SCHEDULES: tuple[ScheduleModule, ...] = (
    winograd,
    conv2d_direct,
    int8_tiled,
    int8_depthwise,
    matmul,
    depthwise,
    pool,
    reduction,
    elementwise,
    data_movement,
)

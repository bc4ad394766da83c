"""The list of schedules, the most specific first: the first whose ``matches`` holds for a kernel is used."""

from __future__ import annotations

from tvmbuild.schedules import (
    conv2d_direct,
    conv2d_int8,
    data_movement,
    depthwise,
    depthwise_int8,
    elementwise,
    matmul,
    matmul_int8,
    pool,
    reduction,
    strassen,
    winograd,
)
from tvmbuild.schedules.module import ScheduleModule

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

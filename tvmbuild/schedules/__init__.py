"""Kernels: computes with weights packed at build time, and a schedule for every PrimFunc.

``legalize_map`` turns Relax operators into our computes, ``emit_conv2d`` and ``emit_matmul`` give integer ones, and
``schedule_module`` schedules what fusion made of them.
"""

from types import MappingProxyType

from tvmbuild.schedules.legalize.conv2d_choices import Plans
from tvmbuild.schedules.legalize.int8 import emit_conv2d, emit_matmul
from tvmbuild.schedules.legalize.operators import legalize_map
from tvmbuild.schedules.registry import KernelReport, schedule_function, schedule_module

#: Names of convolutions' plans where they are not the rule's; ``records.apply`` has some of these.
plans: Plans = MappingProxyType({})

__all__ = [
    "KernelReport",
    "emit_conv2d",
    "emit_matmul",
    "legalize_map",
    "plans",
    "schedule_function",
    "schedule_module",
]

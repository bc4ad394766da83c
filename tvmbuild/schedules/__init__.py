"""Kernels: computes with weights packed at build time, and a schedule for every PrimFunc.

``legalize_map`` turns Relax operators into our computes, ``schedule_module`` schedules what fusion made of them.
"""

from tvmbuild.schedules.legalize import legalize_map
from tvmbuild.schedules.registry import KernelReport, schedule_function, schedule_module

__all__ = ["KernelReport", "legalize_map", "schedule_function", "schedule_module"]

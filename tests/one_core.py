"""Algorithms as one core would choose them, cut for all cores: for tests of each kind of kernel on small layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.schedules.legalize.conv2d_choices import name_of
from tvmbuild.schedules.legalize.conv2d_plan import Conv2dPlan
from tvmbuild.target.target import Target


@contextmanager
def algorithms_of_one_core() -> Iterator[None]:
    """Choose the algorithm of a convolution as if the other cores rested."""
    by_rule = conv2d_plan.alternatives

    def alternatives(geometry: Conv2dGeometry, target: Target, dtype: str) -> list[Conv2dPlan]:
        chosen = [name_of(plan) for plan in by_rule(geometry, dataclasses.replace(target, cores=1), dtype)]
        plans = {name_of(plan): plan for plan in conv2d_plan.possible(geometry, target, dtype)}
        return [plans[name] for name in chosen]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv2d_plan, "alternatives", alternatives)
        # Also where the gain is within the rules' error.
        patch.setattr(conv2d_plan, "LEAST_GAIN", 0.0)
        yield

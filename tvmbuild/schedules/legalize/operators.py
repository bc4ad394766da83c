"""Which Relax operators become our own computes; all others keep TVM's."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, TypeAlias

from tvmbuild.schedules.legalize import conv2d as legalize_conv2d
from tvmbuild.schedules.legalize import conv2d_transpose as legalize_conv2d_transpose
from tvmbuild.schedules.legalize import depthwise as legalize_depthwise
from tvmbuild.schedules.legalize import matmul as legalize_matmul
from tvmbuild.schedules.legalize import take as legalize_take
from tvmbuild.schedules.legalize.conv2d_choices import Plans
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.target.target import Target

#: ``(block_builder, call) -> expression``, as ``relax.transform.LegalizeOps(customize_legalize_map)`` wants it.
LegalizeFunction: TypeAlias = Callable[[Any, Any], Any]


def legalize_map(
    target: Target, plans: Plans = MappingProxyType({}), storage: Storage | None = None
) -> dict[str, LegalizeFunction]:
    """Return the legalizations by operator name ("relax.nn.conv2d") for a board.

    Args:
        target: the board.
        plans: names of convolutions' plans, where they are not the rule's.
        storage: what the build wants of its weights, and where to keep how they are stored; None for float32.
    """
    kept = storage or Storage()
    return {
        "relax.nn.conv2d": lambda builder, call: _conv2d(builder, call, target, plans, kept),
        "relax.nn.conv2d_transpose": lambda builder, call: legalize_conv2d_transpose.legalize(
            builder, call, target, kept
        ),
        "relax.matmul": lambda builder, call: legalize_matmul.legalize(builder, call, target, kept),
        "relax.take": lambda builder, call: legalize_take.legalize(builder, call, target, kept),
    }


def _conv2d(builder: Any, call: Any, target: Target, plans: Plans, storage: Storage) -> Any:
    depthwise = legalize_depthwise.legalize(builder, call)
    # An expression has no truth value, so "or" cannot choose.
    return depthwise if depthwise is not None else legalize_conv2d.legalize(builder, call, target, plans, storage)

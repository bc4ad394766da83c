"""Rules that cut an integer convolution or matrix product into register tiles."""

from __future__ import annotations

import math

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8.compute import Int8Plan
from tvmbuild.schedules.int8.form import Int8Form

#: Bytes of inputs that one load brings.
_VECTOR = 16

#: Windows are copied where that leaves less than this share of the multiply-adds.
_IM2COL_GAIN = 0.9

#: Bytes of a window that is multiplied in one step; nothing but windows may be read beyond its end.
_WHOLE_WINDOW = 2 * _VECTOR

#: Bytes that TVM keeps on the stack for one buffer, at most (kMaxStackAlloca, exclusive).
_STACK_BYTES = 1024


def plan_conv2d(geometry: Conv2dGeometry, form: Int8Form) -> Int8Plan:
    """Choose the tiles of a convolution, and whether its windows are copied."""
    g = geometry
    positions = g.batch * g.out_height * g.out_width
    window = math.prod(g.kernel) * g.group_in
    by_tap = math.prod(g.kernel) * rounded_depth(g.group_in, form)
    can_copy = g.groups == 1 and g.dilation == (1, 1) and math.prod(g.kernel) > 1
    im2col = can_copy and _copied_depth(window, form) < _IM2COL_GAIN * by_tap
    return _plan(positions, g.group_out, window if im2col else g.group_in, form, im2col)


def plan_matmul(rows: int, depth: int, columns: int, form: Int8Form) -> Int8Plan:
    """Choose the tiles of a matrix product (rows, depth) x (depth, columns)."""
    return _plan(rows, columns, depth, form, im2col=False)


def rounded_depth(depth: int, form: Int8Form) -> int:
    """Return a depth rounded up to what the form takes in one step."""
    step = _VECTOR // 2 if form.partial > 1 else form.group
    return -(-depth // step) * step


def _copied_depth(window: int, form: Int8Form) -> int:
    """Return the size of a window that is copied, rounded up so that its inputs are loaded by whole vectors."""
    step = _VECTOR if form.name == "sdot" and window > _WHOLE_WINDOW else 1
    return rounded_depth(-(-window // step) * step, form)


def _plan(positions: int, channels: int, depth: int, form: Int8Form, im2col: bool) -> Int8Plan:
    depth = _copied_depth(depth, form) if im2col else rounded_depth(depth, form)
    if form.partial > 1:
        run = _VECTOR if depth % _VECTOR == 0 else _VECTOR // 2
        vectors = 1
    else:
        run = form.group
        vectors = math.gcd(depth // run, _VECTOR // run) if form.name == "sdot" else 1
        if im2col and depth <= _WHOLE_WINDOW and form.name == "sdot":
            vectors = depth // run
    columns, block = _tile(positions, channels, form)
    return Int8Plan(form.name, columns, block, run, depth // run, form.partial, vectors, im2col, form.element)


def _tile(positions: int, channels: int, form: Int8Form) -> tuple[int, int]:
    """Return the positions and channels of the cheapest tile, by loads and by outputs beyond the edge."""
    if form.partial > 1:
        shapes = [(p, c) for c in (4, 8) for p in range(1, 17) if p * c <= 20 and p + p * c <= 28]
    else:
        shapes = [
            (p, v * form.lanes)
            for v in range(1, 5)
            for p in range(1, 13)
            if p * v + p + 2 * v <= form.registers and p * v * form.lanes * 4 < _STACK_BYTES
        ]

    def cost(shape: tuple[int, int]) -> tuple[float, int]:
        p, c = shape
        tiles = -(-positions // p) * -(-channels // c)
        products = p * c // form.lanes
        loads = p * form.group / _VECTOR + c // form.lanes if form.partial == 1 else p + c
        return tiles * (max(products, 4) + 0.3 * loads), -p

    return min(((p, c) for p, c in shapes if p <= max(positions, 1)), key=cost)

"""Chains that are composed by hand, against the same kernels one after another: bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te

from tvmbuild.schedules.gemm import compute as gemm
from tvmbuild.schedules.gemm.packing import pack_conv2d
from tvmbuild.schedules.gemm.tile_plan import plan_conv2d
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.registry import schedule_function
from tvmbuild.schedules.strips.chain import Chain, Keep, Operand, Role, Step, Strip, Tensor
from tvmbuild.schedules.strips.compose import compose, workspace_bytes
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

HOST = load_target("host")
WIDTH, CHANNELS, MIDDLE, OUT = 9, 5, 19, 12
X, W1, W2, SCRATCH, Y = range(5)


def kernel(geometry: Conv2dGeometry) -> tuple[Any, int]:
    """Return a scheduled convolution and the channels of its blocks of weights."""
    plan = plan_conv2d(geometry, HOST, "float32")
    block = plan.tile.channels
    data = te.placeholder((1, geometry.height, geometry.width, geometry.in_channels), name="data")
    blocks = -(-geometry.out_channels // block)
    weight = te.placeholder((blocks, *geometry.kernel, geometry.in_channels, block), name="weight")
    function = te.create_prim_func([data, weight, gemm.conv2d(data, weight, geometry, plan)])
    return schedule_function("kernel", function, HOST)[0], block


def pointwise(rows: int) -> Conv2dGeometry:
    return Conv2dGeometry(1, rows, WIDTH, CHANNELS, MIDDLE, (1, 1))


def window(rows: int, top: int, bottom: int) -> Conv2dGeometry:
    return Conv2dGeometry(1, rows, WIDTH, MIDDLE, OUT, (3, 3), padding=(top, 1, bottom, 1))


class Composer:
    """A 1x1 and a 3x3 convolution as a chain."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.kernels: dict[Conv2dGeometry, int] = {}

    def call(self, geometry: Conv2dGeometry, *operands: Operand) -> Step:
        return Step(self.kernels.setdefault(geometry, len(self.kernels)), operands)

    def needed(self, first: int, last: int) -> tuple[int, int]:
        return max(0, first - 1), min(self.height, last + 1)

    def strips(self, first: int, last: int, step: int, *, rolling: bool) -> tuple[Strip, ...]:
        strips = []
        made = -1
        for row in range(first, last, step):
            end = min(row + step, last)
            top, bottom = self.needed(row, end)
            # Row r lies at r - origin, at the top of the image too: then the next strip is like all others.
            origin = row - 1
            kept = max(0, made - top) if rolling else 0
            keeps = (Keep(SCRATCH, step, kept),) if kept else ()
            new = top + kept
            steps = []
            if bottom > new:
                target = Operand(SCRATCH, new - origin)
                steps.append(self.call(pointwise(bottom - new), Operand(X, new), Operand(W1), target))
            padding = (top - origin, end + 1 - bottom)
            source = Operand(SCRATCH, top - origin)
            steps.append(self.call(window(bottom - top, *padding), source, Operand(W2), Operand(Y, row)))
            strips.append(Strip(keeps, tuple(steps)))
            made = bottom
        return tuple(strips)


def packed(rng: np.random.Generator, geometry: Conv2dGeometry, block: int) -> Any:
    weight = rng.standard_normal((geometry.out_channels, geometry.in_channels, *geometry.kernel)).astype("float32")
    return pack_conv2d(weight, block)


@settings(max_examples=6, deadline=None)
@given(
    height=st.integers(3, 17),
    cores=st.sampled_from([1, 2, 4]),
    step=st.integers(1, 5),
    rolling=st.booleans(),
)
def test_a_chain_gives_what_its_kernels_give_one_after_another(
    height: int, cores: int, step: int, rolling: bool
) -> None:
    composer = Composer(height)
    share = -(-height // cores)
    bounds = [(min(height, core * share), min(height, (core + 1) * share)) for core in range(cores)]
    strips = tuple(composer.strips(*each, step, rolling=rolling) for each in bounds)
    (whole1, block1), (whole2, block2) = kernel(pointwise(height)), kernel(window(height, 1, 1))
    rng = np.random.default_rng(height)
    w1, w2 = packed(rng, pointwise(height), block1), packed(rng, window(height, 1, 1), block2)
    tensors = (
        Tensor(Role.INPUT, (1, height, WIDTH, CHANNELS), "float32"),
        Tensor(Role.CONSTANT, w1.shape, "float32"),
        Tensor(Role.CONSTANT, w2.shape, "float32"),
        Tensor(Role.SCRATCH, (1, step + 2, WIDTH, MIDDLE), "float32"),
        Tensor(Role.OUTPUT, (1, height, WIDTH, OUT), "float32"),
    )
    chain = Chain("chain", tensors, tuple(kernel(geometry)[0] for geometry in composer.kernels), strips)
    module = {"chain": compose(chain), "first": whole1, "second": whole2}
    library = tvm.compile(
        tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in module.items()}),
        target=HOST.to_tvm(),
    )

    def tensor(values: Any) -> Any:
        return tvm.runtime.tensor(values)

    x = tensor(rng.standard_normal((1, height, WIDTH, CHANNELS)).astype("float32"))
    middle = tensor(np.zeros((1, height, WIDTH, MIDDLE), "float32"))
    expected, found = (tensor(np.full((1, height, WIDTH, OUT), fill, "float32")) for fill in (0, np.nan))
    library["first"](x, tensor(w1), middle)
    library["second"](middle, tensor(w2), expected)
    workspace = tensor(np.full((workspace_bytes(chain),), 0xFF, "uint8"))  # As floats these are NaN.
    library["chain"](x, tensor(w1), tensor(w2), found, workspace)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())

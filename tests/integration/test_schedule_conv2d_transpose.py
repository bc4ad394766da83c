"""Transposed convolution against its definition."""

import numpy as np
import pytest
from schedule_harness import build_module, random_arrays, run
from tvm import relax

pytestmark = pytest.mark.integration


def definition(data, kernel, strides, padding, output_padding):
    """Scatter every input through the kernel; data NHWC, kernel IOHW."""
    batch, height, width, _ = data.shape
    _, channels, rows, columns = kernel.shape
    full = np.zeros(
        (
            batch,
            (height - 1) * strides[0] + rows + output_padding[0],
            (width - 1) * strides[1] + columns + output_padding[1],
            channels,
        )
    )
    for y in range(height):
        for x in range(width):
            patch = np.einsum("ni,iohw->nhwo", data[:, y, x].astype(np.float64), kernel)
            full[:, y * strides[0] : y * strides[0] + rows, x * strides[1] : x * strides[1] + columns] += patch
    top, left, bottom, right = padding
    return full[:, top : full.shape[1] - bottom, left : full.shape[2] - right]


@pytest.mark.parametrize(
    ("shape", "channels", "kernel", "strides", "padding", "output_padding"),
    [
        ((1, 5, 7, 8), 6, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0)),
        ((1, 5, 7, 8), 1, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0)),
        ((1, 4, 3, 5), 16, (4, 4), (2, 2), (1, 1, 1, 1), (0, 0)),
        ((1, 4, 3, 5), 7, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
        ((1, 4, 3, 5), 4, (3, 3), (2, 2), (0, 0, 0, 0), (0, 0)),
        ((2, 3, 3, 4), 4, (5, 3), (3, 1), (1, 0, 2, 1), (0, 0)),
        ((1, 1, 1, 1), 1, (3, 3), (1, 1), (0, 0, 0, 0), (0, 0)),
        ((1, 3, 3, 4), 4, (2, 2), (3, 3), (0, 0, 0, 0), (0, 0)),
    ],
)
def test_agrees_with_the_definition(shape, channels, kernel, strides, padding, output_padding):
    weight = random_arrays([(shape[3], channels, *kernel)], seed=1)[0]
    mod = build_module(
        [shape],
        lambda x: relax.op.nn.relu(
            relax.op.nn.conv2d_transpose(
                x,
                relax.const(weight),
                strides=strides,
                padding=padding,
                output_padding=output_padding,
                data_layout="NHWC",
                kernel_layout="IOHW",
            )
        ),
    )
    arguments = random_arrays([shape])
    result, kinds = run(mod, arguments)
    expected = np.maximum(definition(arguments[0], weight, strides, padding, output_padding), 0)
    assert "naive" not in kinds
    # Sums of at most a few hundred products in another order.
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)

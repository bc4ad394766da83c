"""Element-wise chains and data movement against NumPy."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedule_harness import build_module, random_arrays, run
from tvm import relax

pytestmark = pytest.mark.integration

op = relax.op


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def check(shapes, body, expected, kinds=("elementwise", "data_movement")):
    arguments = random_arrays(shapes)
    result, found = run(build_module(shapes, body), arguments)
    assert found
    assert set(found) <= set(kinds)
    # Each function is within 3 ulp (test_fast_math); the chains here have two at most.
    np.testing.assert_allclose(result, expected(*arguments), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 7, 5, 33), (1, 7, 5, 1), (1, 1, 1, 1009), (3,), (1, 64, 64, 48), (2, 3, 17)])
def test_chain_with_a_bias(shape):
    def body(x, b):
        y = op.add(x, b)
        return op.tanh(op.multiply(y, op.sigmoid(y)))

    check([shape, shape[-1:]], body, lambda x, b: np.tanh((x + b) * sigmoid(x + b)))


@pytest.mark.parametrize("other", [(1, 7, 5, 33), (1, 1, 1, 33), (1, 7, 1, 1), (1,), (1, 1, 5, 1)])
def test_broadcast(other):
    check([(1, 7, 5, 33), other], lambda x, y: op.nn.relu(op.multiply(x, y)), lambda x, y: np.maximum(x * y, 0))


def test_a_value_used_often_is_computed_once_for_each_use_at_most():
    def body(x):
        for _ in range(5):
            x = op.multiply(x, op.sigmoid(x))
        return x

    def expected(x):
        for _ in range(5):
            x = x * sigmoid(x)
        return x

    check([(1, 5, 5, 19)], body, expected)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_concatenation_takes_its_neighbours(axis):
    shapes = [[1, 6, 5, 33] for _ in range(3)]
    for shape, extent in zip(shapes, (33, 14, 3), strict=True):
        shape[axis] = extent

    def body(x, y, z):
        return op.nn.relu(op.concat([x, op.exp(y), z], axis=axis))

    check(shapes, body, lambda x, y, z: np.maximum(np.concatenate([x, np.exp(y), z], axis), 0))


@pytest.mark.parametrize("shape", [(1, 33, 7, 5), (1, 3, 17, 19), (1, 64, 16, 16), (2, 1, 5, 3)])
@pytest.mark.parametrize("axes", [[0, 2, 3, 1], [0, 3, 1, 2], [3, 2, 1, 0]])
def test_transpose(shape, axes):
    check([shape], lambda x: op.permute_dims(x, axes), lambda x: x.transpose(axes))


def test_pad_slice_and_reshape():
    check(
        [(1, 7, 5, 33)],
        lambda x: op.nn.pad(x, [0, 0, 1, 2, 0, 3, 4, 1]),
        lambda x: np.pad(x, [(0, 0), (1, 2), (0, 3), (4, 1)]),
    )
    check([(1, 7, 5, 33)], lambda x: op.strided_slice(x, [1, 3], [1, 4], [6, 30]), lambda x: x[:, 1:6, :, 4:30])
    check(
        [(1, 7, 5, 33)], lambda x: op.reshape(op.nn.relu(x), (5, 7, 33)), lambda x: np.maximum(x, 0).reshape(5, 7, 33)
    )


def test_resize_nearest_doubles():
    def body(x):
        return op.image.resize2d(
            x,
            (14, 10),
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode="asymmetric",
            rounding_method="floor",
        )

    check([(1, 7, 5, 33)], body, lambda x: x.repeat(2, axis=1).repeat(2, axis=2))


def test_take():
    indices = np.array([4, 0, 6, 6], "int32")
    check([(7, 33)], lambda x: op.take(x, relax.const(indices), axis=0), lambda x: x[indices])


@settings(max_examples=15, derandomize=True, suppress_health_check=list(HealthCheck))
@given(shape=st.lists(st.integers(1, 19), min_size=1, max_size=4), mask=st.lists(st.booleans(), min_size=4, max_size=4))
def test_any_broadcast(shape, mask):
    other = [extent if kept else 1 for extent, kept in zip(shape, mask, strict=False)]
    check([shape, other], lambda x, y: op.exp(op.subtract(x, y)), lambda x, y: np.exp(x - y, dtype=np.float64))


def test_split_has_outputs_of_one_name():
    data = random_arrays([(1, 512)])
    result, kinds = run(build_module([(1, 512)], lambda x: op.concat(_reversed_quarters(x), axis=1)), data)
    assert "naive" not in kinds
    np.testing.assert_array_equal(result, np.concatenate(np.split(data[0], 4, axis=1)[::-1], axis=1))


def _reversed_quarters(x):
    parts = relax.BlockBuilder.current().emit(op.split(x, 4, axis=1))
    return [parts[index] for index in (3, 2, 1, 0)]

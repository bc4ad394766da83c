"""Indices that come with the inputs: inside their data as in ONNX Runtime, outside the end of the run, never a read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx_models import model, saved

from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.protocol import RunRequest
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.pipeline import build
from tvmbuild.support.errors import InputDataError, ModelError
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

#: Some sums of a few float32 numbers, in any order.
TOLERANCE = 1e-5
WIDTHS = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}

Shape = list[int]
#: A node whose input "i" holds indices, the shapes of its inputs, and the sizes that the last axis of "i" counts.
Case = tuple[NodeProto, dict[str, Shape], list[int]]


def gather(draw: Callable[..., Any], data: Shape) -> Case:
    axis = draw(st.integers(-len(data), len(data) - 1))
    index = draw(st.lists(st.integers(1, 3), max_size=2))
    return helper.make_node("Gather", ["x", "i"], ["y"], axis=axis), {"x": data, "i": index}, [data[axis]]


def gather_elements(draw: Callable[..., Any], data: Shape) -> Case:
    axis = draw(st.integers(-len(data), len(data) - 1))
    index = [draw(st.integers(1, size)) for size in data]
    return helper.make_node("GatherElements", ["x", "i"], ["y"], axis=axis), {"x": data, "i": index}, [data[axis]]


def gather_nd(draw: Callable[..., Any], data: Shape) -> Case:
    batch = draw(st.integers(0, len(data) - 1))
    depth = draw(st.integers(1, len(data) - batch))
    index = [*data[:batch], draw(st.integers(1, 3)), depth]
    node = helper.make_node("GatherND", ["x", "i"], ["y"], batch_dims=batch)
    return node, {"x": data, "i": index}, data[batch : batch + depth]


def scatter_elements(draw: Callable[..., Any], data: Shape) -> Case:
    axis = draw(st.integers(-len(data), len(data) - 1))
    index = [draw(st.integers(1, size)) for size in data]
    node = helper.make_node("ScatterElements", ["x", "i", "u"], ["y"], axis=axis, reduction="add")
    return node, {"x": data, "i": index, "u": index}, [data[axis]]


def scatter_nd(draw: Callable[..., Any], data: Shape) -> Case:
    depth, count = draw(st.integers(1, len(data))), draw(st.integers(1, 3))
    node = helper.make_node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")
    return node, {"x": data, "i": [count, depth], "u": [count, *data[depth:]]}, data[:depth]


MAKERS = (gather, gather_elements, gather_nd, scatter_elements, scatter_nd)


def indices(shape: Shape, sizes: list[int], rng: np.random.Generator, dtype: str) -> Iterator[tuple[bool, np.ndarray]]:
    """Yield whether all are inside, and indices: any, the last of each axis, the first, and some with one outside."""
    high = np.zeros(shape, dtype) + np.array(sizes if len(sizes) > 1 else sizes[0], dtype)
    low = -high
    yield True, np.asarray(rng.integers(low, high, shape)).astype(dtype)
    yield True, np.array(low)
    yield True, np.array(high - 1)
    for outside in (high, low - 1, np.full(shape, 2**31 - 1), np.full(shape, -(2**31))):
        some = np.array(rng.integers(low, high, shape)).astype(dtype)
        place = rng.integers(some.size)
        some.reshape(-1)[place] = np.asarray(outside).reshape(-1)[place]
        yield False, some


def runner(proto: ModelProto, folder: Path) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Compile a model for this machine and return how to run it."""
    import tvm
    from tvm import relax

    prepared = prepare(saved(proto, folder))
    machine = relax.VirtualMachine(tvm.compile(to_relax(prepared), "llvm"), tvm.cpu())

    def run(feed: dict[str, np.ndarray]) -> np.ndarray:
        arguments = [tvm.runtime.tensor(feed[spec.name]) for spec in prepared.inputs]
        return np.asarray(machine["main"](*arguments).numpy())

    return run


@pytest.mark.parametrize("constant", [False, True], ids=["input", "table"])
@pytest.mark.parametrize("make", MAKERS)
# Each example is compiled: a failing one is shown as it was drawn.
@settings(max_examples=4, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))
@given(data=st.data())
def test_indices_mean_what_they_do_in_onnxruntime(
    tmp_path: Path, make: Callable[..., Case], constant: bool, data: st.DataObject
) -> None:
    node, shapes, sizes = make(data.draw, data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    # The standard has indices of points in int64 alone.
    dtype = "int64" if node.op_type.endswith("ND") else data.draw(st.sampled_from(sorted(WIDTHS)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    feed = {name: rng.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    # An embedding: its data are weights.
    weights = {"x": feed["x"]} if constant else {}
    inputs = {name: shape for name, shape in shapes.items() if name not in weights}
    proto = model([node], inputs, ["y"], weights, opset=18, dtypes={"i": WIDTHS[dtype]})
    run = runner(proto, tmp_path)
    for inside, chosen in indices(shapes["i"], sizes, rng, dtype):
        fed = {name: array for name, array in {**feed, "i": chosen}.items() if name in inputs}
        if inside:
            np.testing.assert_allclose(run(fed), run_reference(proto, fed)["y"], TOLERANCE, TOLERANCE)
            continue
        with pytest.raises(ModelError):
            run_reference(proto, fed)
        with pytest.raises(ValueError, match=f"^{node.op_type} takes indices from -"):
            run(fed)


@pytest.mark.parametrize("told", [False, True])
def test_what_max_pool_took_goes_back_where_it_was(tmp_path: Path, told: bool) -> None:
    node = helper.make_node(
        "MaxUnpool", ["x", "i", *(["s"] if told else [])], ["y"], kernel_shape=[2, 3], strides=[2, 2], pads=[0, 1, 0, 0]
    )
    weights = {"s": np.array([2, 1, 5, 6])} if told else {}
    proto = model([node], {"x": [2, 1, 2, 2], "i": [2, 1, 2, 2]}, ["y"], weights, dtypes={"i": TensorProto.INT64})
    run = runner(proto, tmp_path)
    shape = (2, 1, 5, 6) if told else (2, 1, 4, 4)
    places = np.random.default_rng(0).permutation(np.prod(shape))[:8].reshape(2, 1, 2, 2)
    feed = {"x": np.arange(1, 9, dtype="float32").reshape(2, 1, 2, 2), "i": places}
    np.testing.assert_array_equal(run(feed), run_reference(proto, feed)["y"])
    for outside in (-1, np.prod(shape)):
        bad = places.copy()
        bad[1, 0, 1, 1] = outside
        with pytest.raises(ValueError, match=f"^MaxUnpool takes indices from 0 to {np.prod(shape) - 1}"):
            run({**feed, "i": bad})


@pytest.mark.parametrize("axis", [0, -1])
def test_one_hot_of_what_is_outside_is_off(tmp_path: Path, axis: int) -> None:
    node = helper.make_node("OneHot", ["i", "d", "v"], ["y"], axis=axis)
    weights = {"d": np.array(3), "v": np.array([0.5, 2], np.float32)}
    proto = model([node], {"i": [6]}, ["y"], weights, dtypes={"i": TensorProto.INT64})
    run = runner(proto, tmp_path)
    for chosen in ([0, 1, 2, -1, -2, -3], [3, -4, 2**40, -(2**40), 2**63 - 1, -(2**63)]):
        feed = {"i": np.array(chosen)}
        np.testing.assert_array_equal(run(feed), run_reference(proto, feed)["y"])


@pytest.mark.parametrize(
    ("node", "shapes"),
    [
        (helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], output_height=2, output_width=2), {"r": [1, 4]}),
        (helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2, 2]), {"r": [1, 5]}),
    ],
    ids=lambda value: getattr(value, "op_type", ""),
)
def test_regions_of_images_that_are_not_there_end_the_run(
    tmp_path: Path, node: NodeProto, shapes: dict[str, Shape]
) -> None:
    inputs: dict[str, Shape] = {"x": [2, 1, 6, 8], **shapes, **({"i": [1]} if "i" in node.input else {})}
    proto = model([node], inputs, ["y"], opset=16, dtypes={"i": TensorProto.INT64})
    run = runner(proto, tmp_path)
    image = np.random.default_rng(0).standard_normal(inputs["x"]).astype("float32")
    for number in (0, 1, 2, -1, 10**6):
        region = [1, 1, 4, 4] if "i" in node.input else [number, 1, 1, 4, 4]
        feed = {"x": image, "r": np.array([region], np.float32), "i": np.array([number])}
        feed = {name: feed[name] for name in inputs}
        if 0 <= number < 2:
            np.testing.assert_allclose(run(feed), run_reference(proto, feed)["y"], TOLERANCE, TOLERANCE)
        else:
            with pytest.raises(ValueError, match=f"^{node.op_type} takes indices from 0 to 1"):
                run(feed)


@pytest.mark.parametrize(("board", "precision"), [("rpi4", Precision.FP32), ("rpi5", Precision.FP16)])
def test_a_board_says_which_node_was_given_an_index_outside(tmp_path: Path, board: str, precision: Precision) -> None:
    """Through every pass, fused and scheduled: an embedding whose rows are picked over and put elsewhere."""
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["rows"], name="embedding"),
        helper.make_node("Relu", ["rows"], ["positive"]),
        helper.make_node("GatherElements", ["positive", "j"], ["picked"], name="pick", axis=1),
        helper.make_node("ScatterND", ["bias", "k", "picked"], ["y"], name="put"),
    ]
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(size).astype("float32") for name, size in (("table", (10, 4)), ("bias", (6, 2)))
    }
    integers = dict.fromkeys("ijk", TensorProto.INT64)
    proto = model(nodes, {"i": [3], "j": [3, 2], "k": [3, 1]}, ["y"], weights, dtypes=integers, opset=18)
    target = load_target(board)
    path = saved(proto, tmp_path)
    build(path, target, BuildOptions(output=tmp_path, name="a", precision=precision))
    device = EmulatedDevice(target)
    good = {"i": np.array([9, -10, 0]), "j": np.array([[0, -1], [-4, 3], [1, 2]]), "k": np.array([[5], [-6], [1]])}
    result = device.run(RunRequest(tmp_path / "a.so", list(good.values())))
    tolerance = 2e-3 if precision is Precision.FP16 else TOLERANCE
    np.testing.assert_allclose(result.outputs[0], run_reference(proto, good)["y"], tolerance, tolerance)
    for name, words in (
        ("i", "Gather 'embedding' takes indices from -10 to 9"),
        ("j", "GatherElements 'pick' takes indices from -4 to 3"),
        ("k", "ScatterND 'put' takes indices from -6 to 5"),
    ):
        bad = {**good, name: np.where(good[name] == good[name].max(), 1 << 40, good[name])}
        with pytest.raises(InputDataError, match=words):
            device.run(RunRequest(tmp_path / "a.so", list(bad.values())))

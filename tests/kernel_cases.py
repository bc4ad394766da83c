"""Operators over odd shapes, all in one model: one build and one run check every kind of kernel.

A new case is one line in ``CASES``. Each has inputs and an output of its own, so that fusion and common subexpressions
cannot mix them and a difference is the case's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tvmbuild.schedules.geometry import Conv2dGeometry

Array = NDArray[Any]

#: Largest difference over the largest value. Float32 sums of n terms in another order differ by about sqrt(n) * 6e-8
#: of it; both sides round, and n is at most a few thousand.
DIRECT = 5e-6
#: Winograd's rule lets a layer lose 2e-5 in its samples.
WINOGRAD = 4e-5
#: One level of Strassen's algorithm loses about twice what the sum by the definition does.
STRASSEN = 1e-5


@dataclass(frozen=True)
class Case:
    """One output of the model.

    Attributes:
        steps: operators, each with the attributes and constants that follow the tensor so far (or the inputs).
        inputs: shapes.
        kind: the schedule that must compute it, found by ``workload``; "" to leave it open.
        workload: what the schedule's report calls it.
        tolerance: largest difference over the largest value.
        special: whether the inputs hold NaN and infinities.
    """

    steps: tuple[tuple[str, Mapping[str, Any], tuple[Array | None, ...]], ...]
    inputs: tuple[tuple[int, ...], ...]
    kind: str = ""
    workload: str = ""
    tolerance: float = DIRECT
    special: bool = False

    def arrays(self, name: str) -> list[Array]:
        """Return the inputs: standard normal, with NaN and infinities where the case is about them."""
        rng = np.random.default_rng(len(name))
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in self.inputs]
        if self.special:
            flat = arrays[0].reshape(-1)
            for place, value in zip((1 / 7, 1 / 2, 6 / 7), (np.nan, np.inf, -np.inf), strict=True):
                flat[int(place * flat.size)] = value
        return arrays


def normal(*shape: int) -> Array:
    """Return weights of about the size that keeps a layer's outputs near 1."""
    depth = max(1, int(np.prod(shape[1:])))
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(depth)).astype(np.float32)


def _one(operator: str, *inputs: tuple[int, ...], constants: Sequence[Array | None] = (), **attributes: Any) -> Case:
    return Case(((operator, attributes, tuple(constants)),), inputs)


def _then(case: Case, operator: str, *constants: Array | None, **attributes: Any) -> Case:
    return replace(case, steps=(*case.steps, (operator, attributes, constants)))


def _conv(shape: tuple[int, ...], out: int, kernel: tuple[int, int], **attributes: Any) -> Case:
    """Return a convolution with bias and ReLU in its epilogue, NCHW."""
    weight = normal(out, shape[1] // attributes.get("group", 1), *kernel)
    case = _one("Conv", shape, constants=(weight, normal(out)), **attributes)
    return _then(replace(case, kind="conv2d.direct"), "Relu")


def _winograd(shape: tuple[int, ...], out: int, pads: Sequence[int] = (1, 1, 1, 1)) -> Case:
    return _picked("conv2d.winograd", shape, out, (3, 3), pads=list(pads))


def _picked(kind: str, shape: tuple[int, ...], out: int, kernel: tuple[int, int], **attributes: Any) -> Case:
    """Return a convolution for which the plan must pick an algorithm."""
    batch, channels, height, width = shape
    rows, columns = attributes.get("strides", (1, 1))
    pads = attributes.get("pads", (0, 0, 0, 0))
    geometry = Conv2dGeometry(
        *(batch, height, width, channels, out, kernel),
        stride=(rows, columns),
        padding=(pads[0], pads[1], pads[2], pads[3]),
    )
    tolerance = WINOGRAD if kind == "conv2d.winograd" else STRASSEN
    return replace(_conv(shape, out, kernel, **attributes), kind=kind, workload=geometry.workload, tolerance=tolerance)


def _strassen(shape: tuple[int, ...], out: int, stride: int = 1) -> Case:
    return _picked("conv2d.strassen", shape, out, (1, 1), strides=[stride] * 2)


def _deconv(shape: tuple[int, ...], out: int, kernel: tuple[int, int], **attributes: Any) -> Case:
    weight = normal(shape[1], out // attributes.get("group", 1), *kernel)
    return _one("ConvTranspose", shape, constants=(weight, normal(out)), **attributes)


def _resize(shape: tuple[int, ...], sizes: Sequence[int], **attributes: Any) -> Case:
    return _one("Resize", shape, constants=(None, None, np.array([*shape[:2], *sizes])), **attributes)


def _special(case: Case) -> Case:
    return replace(case, special=True)


_NORM = (normal(33), normal(33))
_MAX = {"kernel_shape": [3, 3], "strides": [2, 2]}
CASES: dict[str, Case] = {
    "conv_one_of_all": _conv((1, 1, 1, 1), 1, (1, 1)),
    "conv_1x1_odd": _conv((1, 7, 13, 17), 11, (1, 1)),
    "conv_1x1_vector": _conv((1, 64, 1, 1), 100, (1, 1)),
    "conv_1x1_stride": _conv((1, 8, 9, 9), 16, (1, 1), strides=[2, 2]),
    "conv_1x1_batch": _conv((2, 16, 8, 8), 24, (1, 1)),
    "conv_first_layer": _conv((1, 3, 23, 19), 16, (3, 3), strides=[2, 2], pads=[1] * 4),
    "conv_first_layer_7x7": _conv((1, 3, 32, 33), 24, (7, 7), strides=[2, 2], pads=[3] * 4),
    "conv_one_input_channel": _conv((1, 1, 11, 13), 5, (5, 3), pads=[2, 1, 2, 1]),
    "conv_one_output_channel": _conv((1, 5, 11, 13), 1, (5, 3), pads=[2, 1, 2, 1]),
    "conv_asymmetric": _conv((1, 12, 10, 10), 21, (3, 3), pads=[0, 1, 2, 0]),
    "conv_dilation": _conv((1, 4, 31, 31), 8, (3, 3), dilations=[7, 7], pads=[7] * 4),
    "conv_groups": _conv((1, 12, 12, 12), 18, (3, 3), group=3, pads=[1] * 4),
    "conv_groups_stride": _conv((1, 10, 12, 12), 4, (3, 3), group=2, strides=[2, 2]),
    "conv_larger_than_image": _conv((1, 6, 3, 3), 8, (5, 5), pads=[2] * 4),
    "conv_row": _conv((1, 16, 1, 40), 24, (1, 9), pads=[0, 4, 0, 4]),
    "conv_strides_differ": _conv((1, 7, 17, 13), 19, (2, 3), strides=[3, 2]),
    "conv_1d": _one("Conv", (1, 6, 37), constants=(normal(10, 6, 5), normal(10)), pads=[4, 0], dilations=[2]),
    "winograd_2x2": _winograd((1, 64, 6, 6), 64),
    "winograd_4x4": _winograd((1, 32, 13, 13), 64),
    "winograd_primes": _winograd((1, 16, 17, 19), 20),
    "winograd_asymmetric": _winograd((1, 32, 14, 15), 64, (0, 1, 2, 1)),
    "winograd_batch": _winograd((2, 32, 9, 11), 36, (0, 0, 0, 0)),
    "winograd_flat": _winograd((1, 24, 5, 23), 40),
    "winograd_chunks": _winograd((1, 16, 40, 40), 16),
    "winograd_7x7_stride": _picked("conv2d.winograd", (1, 3, 67, 90), 32, (7, 7), strides=[2, 2], pads=[3] * 4),
    "winograd_5x5": _picked("conv2d.winograd", (1, 24, 19, 21), 32, (5, 5), pads=[2] * 4),
    "strassen": _strassen((1, 256, 14, 14), 256),
    "strassen_odd": _strassen((1, 512, 15, 13), 256),
    "strassen_stride": _strassen((1, 512, 28, 27), 256, 2),
    "depthwise": _conv((1, 33, 13, 11), 33, (3, 3), group=33, pads=[1] * 4),
    "depthwise_stride": _conv((1, 24, 15, 14), 24, (3, 3), group=24, strides=[2, 2], pads=[0, 0, 1, 1]),
    "depthwise_5x5_dilation": _conv((1, 7, 19, 17), 7, (5, 5), group=7, dilations=[3, 3], pads=[6] * 4),
    "depthwise_multiplier": _conv((1, 5, 9, 9), 10, (3, 3), group=5, pads=[1] * 4),
    "deconv_2x2": _deconv((1, 12, 7, 5), 9, (2, 2), strides=[2, 2]),
    "deconv_3x3": _deconv((1, 7, 6, 9), 12, (3, 3), strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "deconv_5x4_strides": _deconv((1, 8, 5, 6), 4, (5, 4), strides=[3, 2], pads=[1, 0, 2, 1]),
    "deconv_groups": _deconv((1, 8, 5, 6), 6, (3, 3), group=2, strides=[2, 2]),
    "deconv_one_channel": _deconv((1, 1, 4, 3), 1, (4, 4), strides=[2, 2], pads=[1] * 4),
    "matmul": _then(_one("MatMul", (13, 17), constants=(normal(17, 19),)), "Add", normal(19)),
    "matmul_vector": _one("Gemm", (1, 257), constants=(normal(257, 101), normal(101))),
    "matmul_column": _one("MatMul", (31, 37), constants=(normal(37, 1),)),
    "matmul_leading": _one("MatMul", (1, 40, 24), constants=(normal(24, 97),)),
    "matmul_batched": _one("MatMul", (2, 3, 17, 16), (2, 3, 16, 17)),
    "matmul_one_row_batched": _one("MatMul", (4, 1, 32), (4, 32, 23)),
    "max_pool": _one("MaxPool", (1, 13, 13, 15), **_MAX),
    "max_pool_ceil": _one("MaxPool", (1, 16, 14, 12), ceil_mode=1, **_MAX),
    "max_pool_pads": _one("MaxPool", (1, 5, 9, 7), pads=[1, 0, 1, 1], **_MAX),
    "average_pool": _one("AveragePool", (1, 18, 9, 7), kernel_shape=[3, 2], pads=[1, 1, 0, 0]),
    "average_pool_include": _one("AveragePool", (1, 3, 9, 7), kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    "global_average": _one("GlobalAveragePool", (1, 37, 7, 5)),
    "global_average_one": _one("GlobalAveragePool", (1, 1, 13, 1)),
    "global_max": _one("GlobalMaxPool", (2, 20, 5, 3)),
    "softmax": _one("Softmax", (3, 7, 33), axis=-1),
    "softmax_one": _one("Softmax", (5, 1), axis=-1),
    "softmax_middle": _one("Softmax", (2, 13, 7), axis=1),
    "layer_norm": _one("LayerNormalization", (1, 7, 33), constants=_NORM, axis=-1),
    "instance_norm": _one("InstanceNormalization", (1, 33, 7, 5), constants=_NORM),
    "reduce_sum": _one("ReduceSum", (3, 5, 37), constants=(np.array([2]),), keepdims=0),
    "reduce_mean": _one("ReduceMean", (3, 11, 13), axes=[1]),
    "reduce_max_all": _one("ReduceMax", (3, 11, 13), axes=[0, 1, 2], keepdims=0),
    "resize_nearest": _resize(
        (1, 11, 5, 7), (10, 14), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "resize_linear": _resize((1, 9, 5, 7), (13, 10), mode="linear", coordinate_transformation_mode="half_pixel"),
    "resize_linear_corners": _resize(
        (1, 4, 5, 3), (3, 9), mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "concat_channels": _one("Concat", (1, 33, 6, 5), (1, 14, 6, 5), (1, 1, 6, 5), axis=1),
    "concat_rows": _one("Concat", (1, 9, 1, 5), (1, 9, 4, 5), axis=2),
    "pad": _one("Pad", (1, 5, 4, 7), constants=(np.array([0, 1, 2, 0, 0, 0, 1, 3]), np.array(2.5, np.float32))),
    "transpose": _one("Transpose", (3, 13, 17), perm=[2, 0, 1]),
    "transpose_last": _one("Transpose", (2, 3, 19, 5), perm=[0, 1, 3, 2]),
    "chain": _then(_then(_then(_then(_one("Exp", (1, 7, 5, 33)), "Tanh"), "Erf"), "Sigmoid"), "Sqrt"),
    "mish": _then(_one("Softplus", (1, 7, 5, 33)), "Tanh"),
    "mish_after_conv": _then(_then(_conv((1, 6, 9, 11), 10, (3, 3)), "Softplus"), "Tanh"),
    "special_mish": _special(_then(_one("Softplus", (7, 19)), "Tanh")),
    "chain_one": _then(_one("Sigmoid", (1,)), "Exp"),
    "gelu": _then(_one("Erf", (3, 1009)), "Mul", np.array(0.5, np.float32)),
    "special_conv": _special(_conv((1, 6, 9, 11), 10, (5, 5), pads=[2] * 4)),
    "special_conv_1x1": _special(_conv((1, 6, 9, 11), 10, (1, 1))),
    "special_depthwise": _special(_conv((1, 9, 9, 11), 9, (3, 3), group=9, pads=[1] * 4)),
    "special_max_pool": _special(_one("MaxPool", (1, 8, 9, 11), **_MAX)),
    "special_average_pool": _special(_one("AveragePool", (1, 8, 9, 11), **_MAX)),
    "special_global_average": _special(_one("GlobalAveragePool", (1, 8, 9, 11))),
    "special_softmax": _special(_one("Softmax", (9, 21), axis=-1)),
    "special_exp": _special(_one("Exp", (7, 19))),
    "special_tanh": _special(_one("Tanh", (7, 19))),
    "special_sigmoid": _special(_one("Sigmoid", (7, 19))),
    "special_erf": _special(_one("Erf", (7, 19))),
    "special_relu": _special(_one("Relu", (7, 19))),
    "special_clip": _special(_one("Clip", (7, 19), constants=(np.float32(0), np.float32(6)))),
    "special_concat": _special(_one("Concat", (1, 9, 4, 5), (1, 3, 4, 5), axis=1)),
    "special_matmul": _special(_one("MatMul", (9, 17), constants=(normal(17, 19),))),
}


#: Of every kind one that is large enough for several threads, with counts that four of them do not divide.
LARGE_CASES: dict[str, Case] = {
    "direct": _conv((1, 24, 27, 29), 36, (3, 3), strides=[2, 2], pads=[1] * 4),
    "pointwise": _conv((1, 40, 27, 29), 52, (1, 1)),
    "winograd": _winograd((1, 32, 30, 34), 36),
    "strassen": _strassen((1, 256, 15, 19), 264),
    "depthwise": _conv((1, 37, 57, 55), 37, (3, 3), group=37, pads=[1] * 4),
    "deconv": _deconv((1, 24, 27, 29), 20, (2, 2), strides=[2, 2]),
    "matmul": _one("MatMul", (197, 64), constants=(normal(64, 100),)),
    "batched": _one("MatMul", (5, 67, 32), (5, 32, 67)),
    "pool": _one("MaxPool", (1, 33, 111, 113), kernel_shape=[3, 3], strides=[2, 2]),
    "softmax": _one("Softmax", (7, 67, 67), axis=-1),
    "norm": _one("LayerNormalization", (1, 197, 129), constants=(normal(129), normal(129)), axis=-1),
    "chain": _then(_one("Sigmoid", (1, 33, 57, 55)), "Tanh"),
    "resize": _resize((1, 33, 27, 29), (54, 58), mode="linear", coordinate_transformation_mode="half_pixel"),
    "transpose": _one("Transpose", (33, 57, 131), perm=[2, 0, 1]),
}


#: Layers with weights to store as float16, of every kind whose weights may be.
HALF_CASES: dict[str, Case] = {
    "pointwise": _conv((1, 64, 14, 14), 128, (1, 1)),
    "vector": _conv((1, 96, 1, 1), 100, (1, 1)),
    "odd": _conv((1, 7, 13, 17), 11, (1, 1)),
    "batch": _conv((2, 16, 9, 9), 24, (1, 1)),
    "first": _conv((1, 3, 23, 19), 16, (3, 3), strides=[2, 2], pads=[1] * 4),
    "phases": _conv((1, 24, 15, 15), 40, (5, 5), strides=[2, 2], pads=[2] * 4),
    "groups": _conv((1, 12, 12, 12), 18, (3, 3), group=3, pads=[1] * 4),
    "deconv": _deconv((1, 12, 7, 5), 9, (2, 2), strides=[2, 2]),
    "product": _one("MatMul", (21, 36), constants=(normal(36, 50),)),
    "row": _one("Gemm", (1, 257), constants=(normal(257, 101), normal(101))),
    "leading": _one("MatMul", (2, 40, 24), constants=(normal(24, 97),)),
    "winograd": _conv((1, 32, 20, 20), 64, (3, 3), pads=[1] * 4),
}


def make_model(cases: Mapping[str, Case]) -> tuple[ModelProto, dict[str, Array]]:
    """Return a model with an output for each case, and its inputs."""
    nodes, weights, arrays = [], [], {}
    for name, case in cases.items():
        current = []
        for index, array in enumerate(case.arrays(name)):
            arrays[f"{name}.{index}"] = array
            current.append(f"{name}.{index}")
        for step, (operator, attributes, constants) in enumerate(case.steps):
            for index, constant in enumerate(constants):
                label = "" if constant is None else f"{name}.{step}.w{index}"
                if constant is not None:
                    weights.append(numpy_helper.from_array(np.asarray(constant), label))
                current.append(label)
            output = name if step == len(case.steps) - 1 else f"{name}.{step}.y"
            nodes.append(helper.make_node(operator, current, [output], **attributes))
            current = [output]
    graph = helper.make_graph(
        nodes,
        "kernels",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in arrays.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in cases],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), arrays

"""The table of operators: what the passes know of each Relax operator, once.

A pass that treats operators alike asks this table; one that has code of its own for an operator (the axes of a slice,
the canonical form of an activation) keeps that code under the operator's name. What the table does not know of an
operator is said by a default: it stays in NCHW and in float32, no constant is folded into it or computed from it, it
does not move to int8 codes, and fusion goes by TVM's analysis. ``tests/unit/test_graph_operators.py`` walks all
operators that the importer and the passes make.

The elementary functions that kernels call ("tirx.exp") have a table of their own in ``schedules/tir/fast_math.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Kind(Enum):
    """What an operator does, as far as passes treat operators alike."""

    #: Each element of the result by the elements of the operands at its place, after broadcasting.
    ELEMENTWISE = "element-wise"
    #: Along the axes of an attribute ``axis``, with ``keepdims``.
    REDUCTION = "reduction"
    #: The same elements in the same order in another shape; ``simplify`` writes all of them as ``reshape``.
    RESHAPE = "reshape"
    CONVOLUTION = "convolution"
    TRANSPOSED = "transposed convolution"
    PRODUCT = "matrix product"
    OTHER = "other"


#: Kinds that are linear in weights, so that an affine map per output channel folds into them.
LINEAR = frozenset({Kind.CONVOLUTION, Kind.TRANSPOSED, Kind.PRODUCT})


class Half(Enum):
    """Whether float16 will do; where not, the value is the reason."""

    #: The result is as good as the operands: nothing cancels more than in float32 or leaves the range. Elementary
    #: functions are computed in float32 inside the kernel.
    SAFE = "safe"
    #: Safe, but costs nothing in float32 after an operator that stayed there, so it stays too.
    FOLLOWS = "follows"
    #: Moves one tensor as it is: a cast before it could not be fused, one after it can.
    MOVES = "moves"
    #: A float16 sum of n terms loses some sqrt(n) * 2**-12, and squares overflow from 256 on.
    SUMS = "it sums many elements"
    #: Results leave float16's range for moderate arguments.
    WIDE = "its results can leave float16's range"
    UNKNOWN = "it is not known to be safe in float16"

    @property
    def is_safe(self) -> bool:
        """Whether the operator may compute in float16."""
        return self in (Half.SAFE, Half.FOLLOWS, Half.MOVES)


class Layout(Enum):
    """How an operator takes part in NHWC."""

    #: It asks for NHWC; its rule stands in ``layout/anchors.py``.
    ANCHOR = "anchor"
    #: It works on images, and there is no kernel for it in NHWC.
    CHANNELS_FIRST = "channels first"
    #: It follows by a rule of its own in ``layout/followers.py``.
    OWN = "own"
    #: It follows by the rule of its kind, if element-wise or a reduction; else it insists on the order of axes.
    BY_KIND = "by kind"
    #: Each field of its result follows.
    FIELDS = "fields"


class Codes(Enum):
    """Whether an operator on dequantized codes is the same operator on the codes."""

    SAME = "same"
    #: With attributes of its own; the rule stands in ``integers/views.py``.
    OWN = "own"
    #: A product that becomes one of integers (``integers/products.py``) where its weights are codes.
    PRODUCT = "product"
    NONE = "none"


class Fusion(IntEnum):
    """TVM's ``op_pattern``: what a kernel does to its operands' elements, and so what it is fused with."""

    ELEMENTWISE = 0
    BROADCAST = 1
    INJECTIVE = 2
    #: Takes the element-wise operators after it into itself.
    ANCHOR = 4
    #: Stays alone.
    OPAQUE = 8


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: Relax's name without "relax." ("nn.conv2d").
        kind: what it does.
        half: whether float16 will do.
        layout: how it takes part in NHWC.
        codes: whether it commutes with dequantization.
        affine: whether, with one constant operand, it is an affine map that folds into a linear operator before it.
        neutral: a constant operand that changes nothing; None where there is none.
        commutes: whether the operands may change places.
        evaluate: computes it with NumPy on constants; structural ones stand in ``fold/constants.py``.
        fusion: how its kernel is fused where TVM's analysis says too much; None leaves it to that.
        kernel: what its kernel is called, where that is not its short name.
    """

    name: str
    kind: Kind = Kind.OTHER
    half: Half = Half.UNKNOWN
    layout: Layout = Layout.BY_KIND
    codes: Codes = Codes.NONE
    affine: bool = False
    neutral: float | None = None
    commutes: bool = False
    evaluate: Callable[..., Array] | None = None
    fusion: Fusion | None = None
    kernel: str = ""

    @property
    def short(self) -> str:
        """The name without Relax's namespace ("conv2d")."""
        return self.name.rpartition(".")[2]

    @property
    def kernel_name(self) -> str:
        """What its kernels are called ("concatenate")."""
        return self.kernel or self.short

    @property
    def is_elementwise(self) -> bool:
        """Whether it computes each element by itself, so that it minds neither shape nor order of axes."""
        return self.kind is Kind.ELEMENTWISE

    @property
    def is_linear(self) -> bool:
        """Whether it is a convolution, transposed convolution or matrix product."""
        return self.kind in LINEAR


def _map(name: str, half: Half = Half.UNKNOWN, **facts: Any) -> Operator:
    """Return the row of an element-wise operator."""
    return Operator(name, Kind.ELEMENTWISE, half, **facts)


_UNKNOWN, _SAFE, _FOLLOWS, _SUMS, _WIDE = Half.UNKNOWN, Half.SAFE, Half.FOLLOWS, Half.SUMS, Half.WIDE

_ROWS = (
    # Activations and elementary functions.
    _map("nn.relu", half=_SAFE),
    _map("nn.leakyrelu", half=_SAFE, kernel="leaky_relu"),
    _map("nn.silu", half=_SAFE),
    _map("nn.gelu", half=_SAFE),
    # The next three were never tried in float16, so they stay in float32.
    _map("nn.gelu_tanh"),
    _map("nn.selu"),
    _map("nn.softplus"),
    _map("sigmoid", half=_SAFE),
    _map("tanh", half=_SAFE),
    _map("erf", half=_SAFE),
    _map("exp", half=_WIDE, evaluate=np.exp),
    # Softplus (log, exp and more) in each element of a convolution's unrolled tile keeps LLVM busy for minutes.
    _map("log", half=_WIDE, evaluate=np.log, fusion=Fusion.INJECTIVE),
    _map("power", _WIDE, neutral=1, evaluate=np.power),
    _map("sqrt", half=_FOLLOWS, evaluate=np.sqrt),
    _map("rsqrt", half=_WIDE, evaluate=lambda x: 1 / np.sqrt(x)),
    _map("square", half=_WIDE),
    _map("sin"),
    _map("cos"),
    _map("tan"),
    _map("clip", half=_FOLLOWS),
    # Its slopes lie along an axis, so reshapes do not pass it.
    Operator("nn.prelu", half=_SAFE, layout=Layout.OWN),
    # Arithmetic.
    _map("add", _FOLLOWS, affine=True, neutral=0, commutes=True, evaluate=np.add),
    _map("subtract", _FOLLOWS, affine=True, neutral=0, evaluate=np.subtract),
    _map("multiply", _FOLLOWS, affine=True, neutral=1, commutes=True, evaluate=np.multiply),
    # Integers round as ONNX has it, so the rule for constants stands in fold/constants.py.
    _map("divide", _FOLLOWS, affine=True, neutral=1),
    _map("negative", half=_FOLLOWS, affine=True, evaluate=np.negative),
    _map("maximum", _FOLLOWS, evaluate=np.maximum),
    _map("minimum", _FOLLOWS, evaluate=np.minimum),
    _map("abs", half=_SAFE, evaluate=np.abs),
    # Rounding, remainders, comparisons and logic stay in float32: nobody has looked whether float16 would do.
    _map("floor_divide"),
    _map("mod"),
    _map("floor_mod"),
    _map("floor", evaluate=np.floor),
    _map("ceil", evaluate=np.ceil),
    _map("round"),
    _map("sign"),
    _map("astype", kernel="cast"),
    # Comparisons, logic and choice.
    _map("isnan", evaluate=np.isnan),
    _map("isinf"),
    _map("isfinite"),
    _map("equal", evaluate=np.equal),
    _map("not_equal", evaluate=np.not_equal),
    _map("less", evaluate=np.less),
    _map("less_equal", evaluate=np.less_equal),
    _map("greater", evaluate=np.greater),
    _map("greater_equal", evaluate=np.greater_equal),
    _map("logical_and", evaluate=np.logical_and),
    _map("logical_or", evaluate=np.logical_or),
    _map("logical_xor"),
    _map("logical_not", evaluate=np.logical_not),
    _map("where", _SAFE, evaluate=np.where),
    # Convolutions and matrix products; in float16 they accumulate in blocks (schedules/gemm/partial_sums.py).
    # In NHWC it is a conv2d of one row, so nobody asks for more.
    Operator("nn.conv1d", Kind.CONVOLUTION, layout=Layout.ANCHOR),
    Operator("nn.conv2d", Kind.CONVOLUTION, _SAFE, Layout.ANCHOR, Codes.PRODUCT),
    Operator("nn.conv3d", Kind.CONVOLUTION, layout=Layout.CHANNELS_FIRST),
    Operator("nn.conv1d_transpose", Kind.TRANSPOSED, layout=Layout.CHANNELS_FIRST),
    # It is counted among the products of a quantized model, though there is no integer kernel for it.
    Operator("nn.conv2d_transpose", Kind.TRANSPOSED, _SAFE, Layout.ANCHOR, Codes.PRODUCT),
    Operator("nn.conv3d_transpose", Kind.TRANSPOSED, layout=Layout.CHANNELS_FIRST),
    Operator("matmul", Kind.PRODUCT, _SAFE, Layout.OWN, Codes.PRODUCT),
    # Windows over images.
    Operator("nn.max_pool1d", layout=Layout.CHANNELS_FIRST),
    Operator("nn.max_pool2d", half=_SAFE, layout=Layout.ANCHOR, codes=Codes.SAME),
    Operator("nn.max_pool3d", layout=Layout.CHANNELS_FIRST),
    Operator("nn.avg_pool1d", layout=Layout.CHANNELS_FIRST),
    # A large window is a sum over many elements (to_float16.py).
    Operator("nn.avg_pool2d", half=_SAFE, layout=Layout.ANCHOR),
    Operator("nn.avg_pool3d", layout=Layout.CHANNELS_FIRST),
    Operator("nn.adaptive_avg_pool1d"),
    Operator("nn.adaptive_avg_pool2d", half=_SUMS, layout=Layout.ANCHOR),
    Operator("nn.adaptive_avg_pool3d"),
    # It takes an epilogue, but is not inlined into what follows. On codes only to the nearest.
    Operator("image.resize2d", half=_SAFE, layout=Layout.ANCHOR, codes=Codes.OWN, fusion=Fusion.ANCHOR),
    # Normalization and reductions.
    Operator("nn.softmax", half=_SUMS, layout=Layout.OWN, fusion=Fusion.OPAQUE),
    Operator("nn.log_softmax", half=_SUMS, layout=Layout.OWN),
    Operator("nn.layer_norm", half=_SUMS, fusion=Fusion.OPAQUE),
    Operator("nn.rms_norm", half=_SUMS),
    Operator("nn.batch_norm", half=_SUMS),
    Operator("nn.group_norm", half=_SUMS, layout=Layout.CHANNELS_FIRST),
    Operator("nn.instance_norm", half=_SUMS, layout=Layout.CHANNELS_FIRST),
    Operator("mean", Kind.REDUCTION, half=_SUMS),
    Operator("sum", Kind.REDUCTION, half=_SUMS),
    Operator("prod", Kind.REDUCTION, half=_SUMS),
    Operator("max", Kind.REDUCTION, half=_SAFE),
    Operator("min", Kind.REDUCTION, half=_SAFE),
    Operator("variance", half=_SUMS),
    Operator("std", half=_SUMS),
    Operator("cumsum", half=_SUMS),
    # Moves. Those that only change the shape are free as long as they are alone; concatenations and transpositions
    # in one kernel are one that no schedule can vectorise.
    Operator("reshape", Kind.RESHAPE, half=Half.MOVES, layout=Layout.OWN, codes=Codes.SAME, fusion=Fusion.OPAQUE),
    Operator("flatten", Kind.RESHAPE, half=Half.MOVES, codes=Codes.SAME),
    Operator("expand_dims", Kind.RESHAPE, half=Half.MOVES, codes=Codes.SAME),
    Operator("squeeze", Kind.RESHAPE, half=Half.MOVES, codes=Codes.SAME),
    # simplify writes it as a reshape before anybody could ask for more.
    Operator("nn.batch_flatten", Kind.RESHAPE),
    Operator(
        *("permute_dims", Kind.OTHER, Half.MOVES, Layout.OWN, Codes.SAME),
        fusion=Fusion.OPAQUE,
        kernel="transpose",
    ),
    Operator("concat", half=_SAFE, layout=Layout.OWN, fusion=Fusion.OPAQUE, kernel="concatenate"),
    Operator("split", half=_SAFE, layout=Layout.FIELDS, codes=Codes.SAME, fusion=Fusion.OPAQUE),
    Operator("strided_slice", half=_SAFE, layout=Layout.OWN, codes=Codes.SAME),
    Operator("nn.pad", half=_SAFE, layout=Layout.OWN, codes=Codes.OWN),
    Operator("broadcast_to", half=_SAFE, codes=Codes.SAME),
    Operator("tile", half=_SAFE, codes=Codes.SAME),
    Operator("repeat", half=_SAFE),
    Operator("flip", half=_SAFE),
    Operator("take", half=_SAFE),
    # Codes and real numbers; scale and zero point lie along an axis.
    Operator("quantize", layout=Layout.OWN),
    Operator("dequantize", layout=Layout.OWN),
)

#: Operators that run as TVM has them; nothing more is known of them.
_PLAIN = (
    # Element-wise by what they compute, but no model was seen where it would pay to treat them so.
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cosh", "sinh"),
    *("bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "left_shift", "right_shift"),
    # Along axes.
    *("argmax", "argmin", "topk", "unique", "nonzero", "tril", "triu", "stack", "one_hot"),
    # By indices.
    *("gather_elements", "gather_nd", "scatter_elements", "scatter_nd", "dynamic_strided_slice"),
    # Made from shapes and numbers.
    *("arange", "eye_like", "full", "ones_like", "zeros", "zeros_like", "shape_of", "shape_to_tensor", "size"),
    *("tensor_to_shape",),
    # Of images, attention and training.
    *("image.affine_grid", "image.grid_sample", "image.resize3d", "vision.all_class_non_max_suppression"),
    *("vision.roi_align", "vision.roi_pool", "nn.attention", "nn.dropout"),
)

OPERATORS: MappingProxyType[str, Operator] = MappingProxyType(
    {row.name: row for row in _ROWS} | {name: Operator(name) for name in _PLAIN}
)

_BY_KERNEL = {row.kernel_name: row for row in _ROWS}


def operator(name: str) -> Operator:
    """Return the row of an operator ("nn.conv2d"); one that the table does not know has the defaults."""
    return OPERATORS.get(name) or Operator(name)


def of_kernel(name: str) -> Operator:
    """Return the row of the operator whose kernels are called so ("concatenate"), or the defaults."""
    return _BY_KERNEL.get(name) or Operator(name)

"""Computes a Relax module of operators with NumPy, so that a pass can be judged by numbers without compiling.

It is written after ONNX's and Relax's definitions, in float64, and knows what the tests of the passes need; what it
does not know it says by ``Unknown``. It shares no code with the passes but the reading of expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax

from tests import tir_numpy
from tvmbuild.graph.rewriter import array, dtype_of, flat_bindings, is_constant, op_name, shape_of

Array = np.ndarray[Any, Any]
#: Multiply-adds of one operator, at most: a test takes milliseconds.
_MOST_WORK = 2e8


class Unknown(Exception):
    """The module has something that this does not compute."""


def outputs(mod: Any, inputs: Sequence[Array]) -> list[Array]:
    """Return what ``main`` computes of its inputs, real numbers in float64.

    Raises:
        Unknown: an operator or an attribute is not known here.
    """
    main = mod["main"]
    values: dict[Any, Any] = dict(zip(main.params, (_real(each) for each in inputs), strict=True))

    def value_of(expr: Any) -> Any:
        if isinstance(expr, relax.Tuple):
            return [value_of(field) for field in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            return value_of(expr.tuple_value)[expr.index]
        if isinstance(expr, relax.Expr) and is_constant(expr):
            return _real(array(expr))
        if isinstance(expr, relax.Var):
            return values[expr]
        if op_name(expr) == "call_tir":
            return _kernel(mod, expr, [value_of(each) for each in expr.args[1].fields])
        if isinstance(expr, relax.Call) and op_name(expr) in _OPERATORS:
            with np.errstate(all="ignore"):
                tensors = [value_of(each) for each in expr.args if is_tensor(each)]
                result = _OPERATORS[op_name(expr)](expr, *tensors)
            if isinstance(expr.ty, relax.TensorType):
                assert np.shape(result) == shape_of(expr), op_name(expr)
            return result
        raise Unknown(str(expr)[:80])

    for var, value in flat_bindings(main):
        values[var] = value_of(value)
    result = value_of(main.body.body)
    return [np.asarray(each) for each in (result if isinstance(result, list) else [result])]


def _kernel(mod: Any, call: Any, inputs: Sequence[Array]) -> Any:
    """Return what a kernel computes; it works in float32, as it will on a board."""
    func = mod[call.args[0]]
    kept = [each.astype(np.float32) if each.dtype.kind == "f" else each for each in inputs]
    try:
        results = [_real(each) for each in tir_numpy.run(func, kept)]
    except tir_numpy.Unknown as error:
        raise Unknown(str(error)) from error
    return results[0] if len(results) == 1 else results


def is_tensor(expr: Any) -> bool:
    """Whether an operand is a tensor or several, and not a shape or a number."""
    return isinstance(expr, relax.Var | relax.Call | relax.TupleGetItem) or (
        all(map(is_tensor, expr.fields)) if isinstance(expr, relax.Tuple) else is_constant(expr)
    )


def _real(value: Array) -> Array:
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def _is_float(call: Any) -> bool:
    return dtype_of(call).startswith("float")


def _divide(call: Any, a: Array, b: Array) -> Array:
    return a / b if _is_float(call) else np.trunc(a / b).astype(dtype_of(call))


def _cast(call: Any, x: Array) -> Array:
    to = dtype_of(call)
    if to == "float16":
        raise Unknown("float16 rounds on purpose")
    return x.astype(np.float64) if to.startswith("float") else x.astype(to)


def _number(expr: Any) -> float:
    return float(expr.value)


def _axes(call: Any, name: str = "axis") -> tuple[int, ...]:
    axes, rank = getattr(call.attrs, name), len(shape_of(call.args[0]))
    listed = range(rank) if axes is None else axes if hasattr(axes, "__iter__") else [axes]
    return tuple(int(axis) % rank for axis in listed)


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda call, x: np.asarray(function(x, axis=_axes(call), keepdims=bool(call.attrs.keepdims)))


def _channels_last(x: Array, layout: str) -> Array:
    """Put a tensor into the order of NHWC, of any number of spatial axes."""
    order = [layout.index("N"), *(layout.index(axis) for axis in layout if axis not in "NC"), layout.index("C")]
    return np.transpose(x, order)


def _back(x: Array, layout: str) -> Array:
    last = "N" + "".join(axis for axis in layout if axis not in "NC") + "C"
    return np.transpose(x, [last.index(axis) for axis in layout])


def _ints(values: Any, count: int) -> list[int]:
    listed = [int(value) for value in values]
    return listed * count if len(listed) == 1 else listed


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> Array:
    """Return the windows of N, spatial..., C as N, places..., C, kernel..."""
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    axes = tuple(range(1, 1 + len(kernel)))
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    view = view[(slice(None), *(slice(None, None, step) for step in strides))]
    return view[(..., *(slice(None, None, step) for step in dilation))]


def _padded(x: Array, padding: Any, rank: int, fill: float = 0.0) -> Array:
    sides = [int(value) for value in padding]
    sides = sides * (2 * rank) if len(sides) == 1 else sides * 2 if len(sides) == rank else sides
    pairs = [(0, 0), *zip(sides[:rank], sides[rank:], strict=True), (0, 0)]
    return np.pad(x, pairs, constant_values=fill)


def _conv(call: Any, x: Array, weight: Array) -> Array:
    attrs, layout = call.attrs, str(call.attrs.data_layout)
    rank = len(layout) - 2
    kernel_layout = str(attrs.kernel_layout)
    weight = np.transpose(weight, [kernel_layout.index(axis) for axis in "OI" + "DHW"[3 - rank :]])
    x = _padded(_channels_last(x, layout), attrs.padding, rank)
    windows = _windows(x, weight.shape[2:], _ints(attrs.strides, rank), _ints(attrs.dilation, rank))
    groups, out = int(attrs.groups), weight.shape[0]
    _limit(float(np.prod(windows.shape)) * out / groups)
    parts = []
    for part, kernel in zip(np.split(windows, groups, 1 + rank), np.split(weight, groups), strict=True):
        parts.append(np.tensordot(part, kernel, (range(1 + rank, 2 + 2 * rank), range(1, 2 + rank))))
    return _back(np.concatenate(parts, -1), str(attrs.out_layout) or layout)


def _transposed(call: Any, x: Array, weight: Array) -> Array:
    attrs, layout = call.attrs, str(call.attrs.data_layout)
    rank = len(layout) - 2
    kernel_layout = str(attrs.kernel_layout)
    weight = np.transpose(weight, [kernel_layout.index(axis) for axis in "IO" + "DHW"[3 - rank :]])
    x = _channels_last(x, layout)
    strides, dilation = _ints(attrs.strides, rank), _ints(attrs.dilation, rank)
    groups, kernel = int(attrs.groups), weight.shape[2:]
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    size = [(extent - 1) * step + full for extent, step, full in zip(x.shape[1:-1], strides, reach, strict=True)]
    more = _ints(attrs.output_padding, rank)
    result = np.zeros((x.shape[0], *(s + m for s, m in zip(size, more, strict=True)), groups * weight.shape[1]))
    for at in np.ndindex(*kernel):
        parts = [
            np.tensordot(data, taps[(slice(None), slice(None), *at)], (-1, 0))
            for data, taps in zip(np.split(x, groups, -1), np.split(weight, groups), strict=True)
        ]
        places = tuple(
            slice(k * d, k * d + (extent - 1) * s + 1, s)
            for k, d, s, extent in zip(at, dilation, strides, x.shape[1:-1], strict=True)
        )
        result[(slice(None), *places)] += np.concatenate(parts, -1)
    sides = [int(value) for value in attrs.padding]
    sides = sides * (2 * rank) if len(sides) == 1 else sides * 2 if len(sides) == rank else sides
    cut = tuple(slice(a, n - b) for a, b, n in zip(sides[:rank], sides[rank:], result.shape[1:-1], strict=True))
    return _back(result[(slice(None), *cut)], str(attrs.out_layout) or layout)


def _pool(call: Any, x: Array) -> Array:
    attrs, layout = call.attrs, str(call.attrs.layout)
    rank, is_max = len(layout) - 2, "max" in op_name(call)
    if attrs.ceil_mode:
        raise Unknown("ceil_mode")
    sizes = (_ints(attrs.pool_size, rank), _ints(attrs.strides, rank), _ints(attrs.dilation, rank))
    x = _channels_last(x, layout)
    axes = tuple(range(-rank, 0))
    least = -math.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    windows = _windows(_padded(x, attrs.padding, rank, least if is_max else 0.0), *sizes)
    if is_max:
        result = windows.max(axes)
    else:
        ones = _padded(np.ones_like(x), attrs.padding, rank, float(bool(attrs.count_include_pad)))
        result = windows.sum(axes) / _windows(ones, *sizes).sum(axes)
    return _back(result, str(attrs.out_layout) or layout)


def _adaptive(call: Any, x: Array) -> Array:
    layout = str(call.attrs.layout)
    if any(size != 1 for axis, size in zip(layout, shape_of(call), strict=True) if axis not in "NC"):
        raise Unknown("adaptive pooling to more than one element")
    return np.asarray(x.mean(tuple(at for at, axis in enumerate(layout) if axis not in "NC"), keepdims=True))


def _limit(work: float) -> None:
    if work > _MOST_WORK:
        raise Unknown("it takes too long")


def _matmul(_call: Any, a: Array, b: Array) -> Array:
    _limit(float(a.size) * b.shape[-1])
    return np.matmul(a, b)


def _batch_norm(call: Any, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> list[Any]:
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    gamma, beta, mean, variance = (each.reshape(shape) for each in (gamma, beta, mean, variance))
    scale = gamma if call.attrs.scale else 1.0
    shift = beta if call.attrs.center else 0.0
    return [(x - mean) / np.sqrt(variance + float(call.attrs.epsilon)) * scale + shift, mean, variance]


def _layer_norm(call: Any, x: Array, gamma: Array, beta: Array) -> Array:
    axes = _axes(call, "axes")
    centred = x - x.mean(axes, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + float(call.attrs.epsilon))
    shape = [x.shape[axis] if axis in axes else 1 for axis in range(x.ndim)]
    scale = gamma.reshape(shape) if call.attrs.scale else 1.0
    return normal * scale + (beta.reshape(shape) if call.attrs.center else 0.0)


def _softmax(call: Any, x: Array) -> Array:
    axis = int(call.attrs.axis)
    powers = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis, keepdims=True))


def _permute(call: Any, x: Array) -> Array:
    return np.transpose(x, None if call.attrs.axes is None else [int(axis) for axis in call.attrs.axes])


def _split(call: Any, x: Array) -> list[Array]:
    sections = call.attrs.indices_or_sections
    where = (
        [int(each) for each in sections] if hasattr(sections, "__iter__") else int(getattr(sections, "value", sections))
    )
    return list(np.array_split(x, where, int(call.attrs.axis)))


def _slice(call: Any, x: Array) -> Array:
    axes, begin, end = ([int(each.value) for each in call.args[at].fields] for at in (1, 2, 3))
    strides = [int(each.value) for each in call.args[4].fields] if len(call.args) > 4 else [1] * len(axes)
    cut = [slice(None)] * x.ndim
    for axis, first, last, step in zip(axes, begin, end, strides, strict=True):
        # A negative step that ends before the first element has no end in Python.
        cut[axis] = slice(first, None if step < 0 and last < -x.shape[axis] else last, step)
    return x[tuple(cut)]


def _pad(call: Any, x: Array) -> Array:
    if str(call.attrs.pad_mode) != "constant":
        raise Unknown("pad_mode")
    width = [int(each) for each in call.attrs.pad_width]
    return np.pad(x, list(zip(width[::2], width[1::2], strict=True)), constant_values=float(call.attrs.pad_value))


def _prelu(call: Any, x: Array, slope: Array) -> Array:
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    return np.where(x > 0, x, x * (slope.reshape(shape) if slope.size > 1 else slope.reshape(())))


def _take(call: Any, x: Array, indices: Array) -> Array:
    return np.take(x, indices, None if call.attrs.axis is None else int(call.attrs.axis), mode="wrap")


def _along(call: Any, parameter: Array, x: Array) -> Array:
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    return parameter.reshape(shape if parameter.size > 1 else ()).astype(np.float64)


def _quantize(call: Any, x: Array, scale: Array, zero: Array) -> Array:
    ends = np.iinfo(dtype_of(call))
    steps = np.rint(x / _along(call, scale, x)) + _along(call, zero, x)
    return np.clip(steps, ends.min, ends.max).astype(ends.dtype)


def _dequantize(call: Any, x: Array, scale: Array, zero: Array) -> Array:
    return (x - _along(call, zero, x)) * _along(call, scale, x)


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _map(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _call, *values: function(*values)


def _reshaped(call: Any, x: Array) -> Array:
    return x.reshape(shape_of(call))


_OPERATORS: dict[str, Callable[..., Any]] = {
    "nn.relu": _map(lambda x: np.maximum(x, 0)),
    "nn.leakyrelu": lambda call, x: np.where(x > 0, x, x * float(call.attrs.alpha)),
    "nn.silu": _map(lambda x: x * _sigmoid(x)),
    "nn.gelu": _map(lambda x: x * (1 + _erf(x / math.sqrt(2))) / 2),
    "nn.softplus": _map(lambda x: np.logaddexp(0, x)),
    "nn.prelu": _prelu,
    "sigmoid": _map(_sigmoid),
    "erf": _map(_erf),
    **{name: _map(getattr(np, name)) for name in ("tanh", "exp", "log", "sqrt", "sin", "cos", "tan", "abs", "sign")},
    **{
        name: _map(getattr(np, name)) for name in ("floor", "ceil", "square", "negative", "where", "maximum", "minimum")
    },
    **{
        name: _map(getattr(np, name)) for name in ("add", "subtract", "multiply", "power", "equal", "not_equal", "less")
    },
    **{name: _map(getattr(np, name)) for name in ("less_equal", "greater", "greater_equal", "isnan", "logical_not")},
    **{name: _map(getattr(np, name)) for name in ("logical_and", "logical_or", "logical_xor")},
    "rsqrt": _map(lambda x: 1 / np.sqrt(x)),
    "round": _map(np.rint),
    "divide": _divide,
    "clip": lambda call, x: np.clip(x, _number(call.args[1]), _number(call.args[2])),
    "astype": _cast,
    "nn.conv1d": _conv,
    "nn.conv2d": _conv,
    "nn.conv3d": _conv,
    "nn.conv1d_transpose": _transposed,
    "nn.conv2d_transpose": _transposed,
    "nn.conv3d_transpose": _transposed,
    "matmul": _matmul,
    **{f"nn.{kind}_pool{rank}d": _pool for kind in ("max", "avg") for rank in (1, 2, 3)},
    **{f"nn.adaptive_avg_pool{rank}d": _adaptive for rank in (1, 2, 3)},
    "nn.batch_norm": _batch_norm,
    "nn.layer_norm": _layer_norm,
    "nn.softmax": _softmax,
    "nn.log_softmax": lambda call, x: np.log(_softmax(call, x)),
    **{name: _reduce(getattr(np, name)) for name in ("mean", "sum", "max", "min", "prod")},
    "variance": _reduce(np.var),
    "std": _reduce(np.std),
    **dict.fromkeys(("reshape", "flatten", "expand_dims", "squeeze", "nn.batch_flatten"), _reshaped),
    "permute_dims": _permute,
    "concat": lambda call, parts: np.concatenate(parts, 0 if call.attrs.axis is None else int(call.attrs.axis)),
    "stack": lambda call, parts: np.stack(parts, int(call.attrs.axis)),
    "split": _split,
    "strided_slice": _slice,
    "nn.pad": _pad,
    "nn.dropout": _map(lambda x: [x, np.ones_like(x)]),
    "broadcast_to": lambda call, x: np.broadcast_to(x, shape_of(call)),
    "take": _take,
    "quantize": _quantize,
    "dequantize": _dequantize,
}

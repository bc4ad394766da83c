"""Give every input a fixed shape."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx
from onnx import ValueInfoProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.intake.sizes import MOST_AXES, is_gigantic
from tvmbuild.support.errors import ShapeError
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.support.tensor import TensorSpec

#: Names that exporters give to dimensions of which they know nothing: equal names then do not mean equal sizes.
_ANONYMOUS = re.compile(r"^(|\?|none|unk_*\d*|unknown)$", re.IGNORECASE)
_FORM = "Write --shape NAME=SIZE,SIZE,... (--shape x=1,3,224,224), or --shape NAME= for a scalar."
_VALUE_FORM = "Write --value NAME=NUMBER or NAME=NUMBER,NUMBER,... (--value sr=16000)."


def parse_shapes(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Parse the values of ``--shape``: "x=1,3,224,224", "x=1x3x224x224", or "x=" for a scalar.

    An input's name may itself contain "=" and ":"; the last "=" counts.

    Raises:
        ShapeError: a text of another form, a size that is not a positive whole number, or an input given twice.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        if not equals or not name:
            raise ShapeError(f"The shape {text!r} has no name.", _FORM)
        if name in shapes:
            raise ShapeError(f"The shape of '{name}' is given twice.", "Give each input once.")
        shapes[name] = tuple(_size(text, size) for size in re.split("[,x]", sizes)) if sizes.strip() else ()
    return shapes


def _size(text: str, size: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]+\s*", size, re.ASCII) or len(size) > 20:
        raise ShapeError(f"The shape {text!r} has {size!r} where a size should be.", _FORM)
    if int(size) < 1:
        raise ShapeError(f"The shape {text!r} has the size {int(size)}; sizes are 1 or more.", _FORM)
    return int(size)


def parse_values(texts: Iterable[str]) -> dict[str, np.ndarray]:
    """Parse the values of ``--value``: "sr=16000", or "size=224,224" for a vector.

    The arrays are int64, float64 or bool; ``freeze_shapes`` gives them the input's dtype and shape.

    Raises:
        ShapeError: a text of another form, or an input given twice.
    """
    values: dict[str, np.ndarray] = {}
    for text in texts:
        name, equals, given = text.rpartition("=")
        if not equals or not name:
            raise ShapeError(f"The value {text!r} has no name.", _VALUE_FORM)
        if name in values:
            raise ShapeError(f"The value of '{name}' is given twice.", "Give each input once.")
        numbers = [_number(text, number.strip()) for number in given.split(",")]
        values[name] = np.array(numbers if len(numbers) > 1 else numbers[0])
    return values


def _number(text: str, number: str) -> bool | int | float:
    if number.lower() in ("true", "false"):
        return number.lower() == "true"
    try:
        whole = int(number)
        return whole if abs(whole) < 2**63 else float(number)
    except ValueError:
        pass
    try:
        return float(number)
    except ValueError as error:
        raise ShapeError(f"The value {text!r} has {number!r} where a number should be.", _VALUE_FORM) from error


def with_batch_of_one(
    proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], values: Collection[str] = ()
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """Give a batch of 1 to the inputs of which nothing but the leading dimension is open.

    A dimension's name that stands elsewhere too, as a length does, means no batch, and where a given shape has another
    batch than 1, the other inputs' batches have to be given as well.

    Args:
        proto: the model.
        shapes: sizes by input's name, as given.
        values: names of inputs that become constants.

    Returns:
        The given shapes and the assumed ones, and what was assumed, for people.
    """
    declared = {value.name: _declared(value) or [] for value in proto.graph.input if value.name not in values}
    is_open = {name: bool(dims) and isinstance(dims[0], str) for name, dims in declared.items()}
    if any(shapes[name][:1] != (1,) for name in declared if name in shapes and is_open[name]):
        return dict(shapes), ()
    sizes = named_sizes(proto, shapes)
    later = {size for dims in declared.values() for size in dims[1:]}
    assumed: dict[str, tuple[int, ...]] = {}
    for name, dims in declared.items():
        rest = [size for size in _filled(dims[1:], sizes) or () if size is not None]
        is_length = dims[:1] and dims[0] in later and not _ANONYMOUS.match(str(dims[0]))
        if (
            is_open[name]
            and name not in shapes
            and len(rest) == len(dims) - 1
            and not is_length
            and dims[0] not in sizes
        ):
            assumed[name] = (1, *rest)
    if all(len(shape) == 1 for shape in assumed.values()):
        # A vector alone is rather of an open length.
        assumed = {}
    return {**shapes, **assumed}, tuple(f"the open batch of '{name}' is taken as 1" for name in assumed)


def freeze_shapes(
    proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray] | None = None
) -> tuple[str, ...]:
    """Give every input of ``proto`` a fixed shape, in place; return what differs from the file's own shapes.

    A dimension's name that another input shares gets the size that is given for it there; it has one size. Shapes that
    the file states for other tensors are dropped, since they may no longer hold. An input in ``values`` becomes a
    constant.

    Raises:
        ShapeError: an unknown input, a wrong rank, a size under 1 or gigantic, a dimension of two sizes, or
            dynamic dimensions that remain.
    """
    values = values or {}
    _check_given(proto, shapes, values)
    fitted = _fitted_values(proto, values)
    sizes = named_sizes(proto, {**shapes, **{name: array.shape for name, array in fitted.items()}})
    notes = _freeze_values(proto, fitted)
    open_inputs: dict[str, list[str]] = {}
    for value in proto.graph.input:
        declared = _declared(value)
        shape: list[int | None] | None = list(shapes[value.name]) if value.name in shapes else _filled(declared, sizes)
        if shape is None or any(size is None for size in shape):
            open_inputs[value.name] = ["?" if shape is None else ""] if declared is None else _shown(declared, shape)
            continue
        if is_gigantic(size for size in shape if size is not None):
            raise ShapeError(f"The input '{value.name}' of shape {_text(shape)} is larger than any kernel can index.")
        if declared is not None and any(
            isinstance(old, int) and old != new for old, new in zip(declared, shape, strict=True)
        ):
            notes += (f"input '{value.name}' is {_text(declared)} in the file, built as {_text(shape)}",)
        set_shape(value, [size or 0 for size in shape])
    if open_inputs:
        raise _missing(open_inputs)
    forget_shapes(proto)
    return notes


def input_specs(proto: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the inputs of a model with fixed shapes, in its order."""
    return tuple(_spec(value) for value in proto.graph.input)


def _spec(value: ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(value.name, str(dtype), tuple(dim.dim_value for dim in tensor.shape.dim))


def _check_given(
    proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, np.ndarray]
) -> None:
    inputs = {value.name: value for value in proto.graph.input}
    for name in (*shapes, *values):
        if name not in inputs:
            raise ShapeError(f"The model has no input '{name}'.", did_you_mean(name, inputs))
    for name, shape in shapes.items():
        declared = _declared(inputs[name])
        if declared is not None and len(declared) != len(shape):
            raise ShapeError(
                f"The input '{name}' has {len(declared)} dimensions ({_text(declared)}), but --shape gives"
                f" {len(shape)} ({_text(shape)}).",
                _FORM,
            )
        if len(shape) > MOST_AXES:
            raise ShapeError(f"The shape of '{name}' has {len(shape)} dimensions; {MOST_AXES} are the most.", _FORM)
        if any(size < 1 for size in shape):
            raise ShapeError(f"The shape {_text(shape)} of '{name}' has a size under 1.", _FORM)


def _declared(value: ValueInfoProto) -> list[int | str] | None:
    """Return the file's own shape (a name for a dynamic dimension), or None when not even the rank is known."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [dim.dim_value if dim.dim_value > 0 else dim.dim_param for dim in tensor.shape.dim]


def named_sizes(proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the sizes that the given shapes imply for named dimensions.

    Raises:
        ShapeError: they imply two sizes for one name.
    """
    sizes: dict[str, int] = {}
    first: dict[str, str] = {}
    for value in proto.graph.input:
        for axis, (old, new) in enumerate(zip(_declared(value) or (), shapes.get(value.name, ()), strict=False)):
            if not isinstance(old, str) or _ANONYMOUS.match(old):
                continue
            place = first.setdefault(old, f"axis {axis} of '{value.name}'")
            if sizes.setdefault(old, new) != new:
                raise ShapeError(
                    f"The dimension '{old}' is {sizes[old]} in {place}, but {new} in axis {axis} of '{value.name}'.",
                    "One name means one size in ONNX: give the same size, or rename the dimension in the exporter.",
                )
    return sizes


def _filled(declared: list[int | str] | None, sizes: Mapping[str, int]) -> list[int | None] | None:
    if declared is None:
        return None
    return [size if isinstance(size, int) else sizes.get(size) for size in declared]


def _shown(declared: list[int | str], shape: list[int | None] | None) -> list[str]:
    return [str(new if new is not None else old or "?") for old, new in zip(declared, shape or declared, strict=True)]


def _missing(open_inputs: Mapping[str, list[str]]) -> ShapeError:
    """Build the error that lists every dynamic dimension and a line to paste."""
    listed = "; ".join(
        f"'{name}' is [{', '.join(dims)}]" if dims != ["?"] else f"'{name}' has no known rank"
        for name, dims in open_inputs.items()
    )
    flags = " ".join(f"--shape {_quoted(name)}={','.join(_example(dims))}" for name, dims in open_inputs.items())
    return ShapeError(
        f"The model has dynamic dimensions, and every one needs a size: {listed}.", f"For example: {flags}"
    )


def _example(dims: list[str]) -> list[str]:
    """Fill unknown sizes with ones that often fit: a batch of 1, pictures of 224, sequences of 128."""
    usual = "224" if len(dims) == 4 else "128"
    return [
        size
        if size.isdecimal() and int(size) > 0
        else "1"
        if axis == 0
        else "3"
        if len(dims) == 4 and axis == 1
        else usual
        for axis, size in enumerate(dims)
    ]


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[\w.:/@%+-]+", name, re.ASCII) else "'" + name.replace("'", "'\\''") + "'"


def _text(shape: Iterable[object]) -> str:
    return "x".join(str(size) or "?" for size in shape) or "a scalar"


def _fitted_values(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {value.name: _fitted(value, values[value.name]) for value in proto.graph.input if value.name in values}


def _freeze_values(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Turn inputs into constants of the given arrays."""
    notes = []
    kept = [value for value in proto.graph.input if value.name not in values]
    for name, array in values.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
        notes.append(f"input '{name}' is fixed to {np.array2string(array, threshold=4, separator=',')}")
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return tuple(notes)


def _fitted(value: ValueInfoProto, given: np.ndarray) -> np.ndarray:
    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    array = given.astype(dtype)
    declared = _declared(value)
    if not np.array_equal(array, given):
        raise ShapeError(f"The value for '{value.name}' does not fit its dtype {dtype}.")
    if declared is None or len(declared) == array.ndim:
        return array
    known = [size if isinstance(size, int) else -1 for size in declared]
    try:
        return array.reshape(known)
    except ValueError as error:
        raise ShapeError(
            f"The value for '{value.name}' has {array.size} elements, which do not fit {_text(declared)}."
        ) from error


def set_shape(value: ValueInfoProto, shape: Iterable[int]) -> None:
    """Give a declared tensor a fixed shape, in place."""
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.SetInParent()
    for size in shape:
        value.type.tensor_type.shape.dim.add().dim_value = size


def forget_shapes(proto: onnx.ModelProto) -> None:
    """Drop the shapes that a model states for tensors other than inputs, in place."""
    for graph in walk.graphs(proto.graph):
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")

"""Which operators become float16, where the casts stand, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax

from tvmbuild.graph.report import PassReport
from tvmbuild.graph.rewriter import dtype_of, flat_bindings, op_name
from tvmbuild.graph.to_float16 import to_float16
from tvmbuild.support.errors import OptionError
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import load_target, require_precision

WEIGHT = np.full((8, 8, 1, 1), 0.5, "float32")


def converted(body: Callable[..., Any], *shapes: tuple[int, ...]) -> tuple[list[tuple[str, str]], PassReport]:
    """Return the operators of a rewritten graph with the dtypes of their results."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(body(builder.emit, *variables))
        builder.emit_func_output(result)
    mod, report = to_float16(builder.finalize())
    function = mod["main"]
    assert {dtype_of(parameter) for parameter in function.params} == {"float32"}
    found = []
    for _, value in flat_bindings(function):
        if op_name(value):
            found.append((op_name(value), dtype_of(value) if isinstance(value.ty, relax.TensorType) else "tuple"))
    return found, report


def convolved(x: Any) -> Any:
    return relax.op.nn.conv2d(x, relax.const(WEIGHT))


def test_casts_stand_at_the_borders_alone() -> None:
    found, report = converted(
        lambda emit, x: relax.op.nn.relu(emit(relax.op.add(emit(convolved(x)), relax.const(1.0, "float32")))),
        (1, 8, 5, 5),
    )
    assert found == [
        *(("astype", "float16"), ("nn.conv2d", "float16"), ("add", "float16"), ("nn.relu", "float16")),
        ("astype", "float32"),
    ]
    assert (report.applied, report.total) == (3, 3)


def test_a_sum_stays_in_float32_between_two_products() -> None:
    found, report = converted(
        lambda emit, x, y: relax.op.matmul(emit(relax.op.nn.softmax(emit(relax.op.matmul(x, y)))), y), (8, 8), (8, 8)
    )
    names = [name for name, _ in found]
    assert ("nn.softmax", "float32") in found
    assert names.count("matmul") == 2
    assert all(dtype == "float16" for name, dtype in found if name == "matmul")
    assert [(kept.node, kept.reason) for kept in report.kept] == [("softmax", "it sums many elements")]


def test_what_follows_a_sum_element_by_element_stays_too() -> None:
    def body(emit: Any, x: Any) -> Any:
        y = emit(convolved(x))
        mean = emit(relax.op.mean(y, [2, 3], keepdims=True))
        return relax.op.multiply(emit(relax.op.sqrt(emit(relax.op.add(mean, relax.const(1e-2, "float32"))))), y)

    found, report = converted(body, (1, 8, 5, 5))
    assert ("sqrt", "float32") in found
    assert ("multiply", "float16") in found
    assert [kept.node for kept in report.kept] == ["mean", "add", "sqrt"]


@pytest.mark.parametrize(
    ("operator", "reason"),
    [
        (
            lambda x: relax.op.multiply(x, relax.const(1e5, "float32")),
            "it has a constant beyond float16's largest, 65504",
        ),
        (lambda x: relax.op.add(x, relax.const(1e-7, "float32")), "it has a constant below float16's normal numbers"),
        (lambda x: relax.op.multiply(x, x), "its results can leave float16's range"),
        (relax.op.exp, "its results can leave float16's range"),
        (lambda x: relax.op.nn.avg_pool2d(x, (7, 7)), "it sums many elements"),
        (relax.op.sin, "it is not known to be safe in float16"),
    ],
)
def test_operators_that_stay_say_why(operator: Callable[[Any], Any], reason: str) -> None:
    found, report = converted(lambda emit, x: operator(emit(convolved(x))), (1, 8, 7, 7))
    assert found[-1][1] == "float32"
    assert [kept.reason for kept in report.kept] == [reason]


def test_infinities_and_zeros_are_constants_like_others() -> None:
    mask = np.array([0, -np.inf, 1, np.inf, 2, 3, 4, 5], "float32")
    _, report = converted(lambda emit, x: relax.op.add(x, relax.const(mask)), (4, 8))
    assert (report.applied, report.kept) == (1, ())


def test_each_part_of_a_split_is_cast_by_itself() -> None:
    def body(emit: Any, x: Any) -> Any:
        parts = emit(relax.op.split(emit(convolved(x)), 2, axis=1))
        return relax.op.add(emit(relax.TupleGetItem(parts, 0)), emit(relax.TupleGetItem(parts, 1)))

    found, _ = converted(body, (1, 8, 5, 5))
    assert [name for name, _ in found].count("astype") == 2
    assert ("add", "float16") in found


def test_a_move_of_an_input_comes_before_the_cast() -> None:
    found, _ = converted(lambda emit, x: convolved(emit(relax.op.permute_dims(x, [0, 3, 1, 2]))), (1, 5, 5, 8))
    assert found[0] == ("permute_dims", "float32")
    assert found[1] == ("astype", "float16")


@pytest.mark.parametrize("name", ["rpi3", "rpi4", "rpizero2w", "generic-aarch64"])
def test_a_board_without_the_arithmetic_is_refused(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        require_precision(load_target(name), Precision.FP16)
    assert f"{name} (" in caught.value.message
    assert "rpi5" in caught.value.hint


def test_a_board_with_the_arithmetic_is_not() -> None:
    require_precision(load_target("rpi5"), Precision.FP16)

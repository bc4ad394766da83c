"""Written-out layer normalization is found, and nothing that merely resembles it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax

from tvmbuild.graph.layer_norm import recognize_layer_norm
from tvmbuild.graph.rewriter import array, flat_bindings, op_name

WIDTH = 6
GAMMA, BETA = np.arange(1, WIDTH + 1, dtype="float32"), np.linspace(-1, 1, WIDTH, dtype="float32")


def written_out(axes: tuple[int, ...] = (2,), keep: bool = True, gamma: Any = GAMMA, other: bool = False) -> Any:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((2, 3, WIDTH), "float32"))
    emit = builder.emit
    with builder.function("main", [data]):
        with builder.dataflow():
            centered = emit(relax.op.subtract(data, emit(relax.op.mean(data, axes, keepdims=keep))))
            square = emit(relax.op.multiply(centered, data if other else centered))
            variance = emit(
                relax.op.add(emit(relax.op.mean(square, axes, keepdims=keep)), relax.const(1e-5, "float32"))
            )
            quotient = emit(relax.op.divide(centered, emit(relax.op.sqrt(variance))))
            scaled = emit(relax.op.multiply(relax.const(gamma), quotient))
            result = builder.emit_output(relax.op.add(scaled, relax.const(BETA)))
        builder.emit_func_output(result)
    return builder.finalize()


def test_the_chain_becomes_one_operator() -> None:
    mod, report = recognize_layer_norm(written_out())
    ((_, norm),) = flat_bindings(mod["main"])
    assert (op_name(norm), report.applied) == ("nn.layer_norm", 1)
    assert [int(axis) for axis in norm.attrs.axes] == [2]
    assert norm.attrs.epsilon == pytest.approx(1e-5)
    np.testing.assert_array_equal(array(norm.args[1]), GAMMA)
    np.testing.assert_array_equal(array(norm.args[2]), BETA)


def test_one_scale_for_all_is_spread() -> None:
    mod, _ = recognize_layer_norm(written_out(gamma=np.array(3, dtype="float32")))
    ((_, norm),) = flat_bindings(mod["main"])
    np.testing.assert_array_equal(array(norm.args[1]), np.full(WIDTH, 3))


@pytest.mark.parametrize(
    "other",
    [
        written_out(axes=(1,)),
        written_out(gamma=np.ones((3, 1), dtype="float32")),
        written_out(other=True),
    ],
    ids=["not the last axis", "scale along another axis", "not a variance"],
)
def test_what_resembles_it_is_left_alone(other: Any) -> None:
    mod, report = recognize_layer_norm(other)
    assert report.applied == 0
    assert len(flat_bindings(mod["main"])) == 9

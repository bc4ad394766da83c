"""Recurrent operators are unrolled to the same numbers, or refused with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, helper
from onnx_models import model

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.facts import gather_facts
from tvmbuild.onnx_model.limits import limit
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.rewrites.importable import rewrite_operators
from tvmbuild.onnx_model.rewrites.recurrent import MOST_STEPS
from tvmbuild.onnx_model.shapes import input_specs

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FEATURES, HIDDEN = 3, 4


def recurrent(
    operator: str, steps: int = 3, batch: int = 1, *, bias: bool = True, states: bool = False, **attributes: Any
) -> ModelProto:
    """A model of one recurrent node that writes every output."""
    rng = np.random.default_rng(steps)
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[operator] * HIDDEN

    def floats(*shape: int) -> np.ndarray[Any, Any]:
        return rng.uniform(-1, 1, shape).astype(np.float32)

    weights = {"w": floats(directions, rows, FEATURES), "r": floats(directions, rows, HIDDEN)}
    inputs = {"x": [steps, batch, FEATURES]}
    names = ["x", "w", "r", "", "", "", ""]
    if bias:
        weights["b"], names[3] = floats(directions, 2 * rows), "b"
    outputs = ["y", "h", "c"] if operator == "LSTM" else ["y", "h"]
    if states:
        for place, name in zip((5, 6), ("h0", "c0")[: len(outputs) - 1], strict=False):
            inputs[name], names[place] = [directions, batch, HIDDEN], name
    node = helper.make_node(
        operator, names[: 7 if operator == "LSTM" else 6], outputs, hidden_size=HIDDEN, **attributes
    )
    return model([node], inputs, outputs, weights)


@given(
    st.sampled_from(list(GATES)),
    st.integers(1, 4),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.integers(0, 1),
)
def test_unrolled(
    operator: str, steps: int, batch: int, bias: bool, states: bool, direction: str, reset_after: int
) -> None:
    attributes: dict[str, Any] = {"direction": direction}
    if operator == "GRU":
        attributes["linear_before_reset"] = reset_after
    proto = recurrent(operator, steps, batch, bias=bias, states=states, **attributes)
    inputs = random_inputs(input_specs(proto), 5)
    wanted = run_reference(proto, inputs)
    assert rewrite_operators(proto, gather_facts(proto)) == (f"1 {operator} rewritten for TVM's importer",)
    assert operator not in {node.op_type for node in proto.graph.node}
    got = run_reference(proto, inputs)
    # Four steps of sums of seven products, through activations that do not magnify.
    assert max(difference(wanted[key], got[key]) for key in wanted) < 2e-6


def test_other_activations() -> None:
    proto = recurrent("RNN", activations=["Relu"])
    inputs = random_inputs(input_specs(proto), 5)
    wanted = run_reference(proto, inputs)
    rewrite_operators(proto, gather_facts(proto))
    got = run_reference(proto, inputs)
    assert max(difference(wanted[key], got[key]) for key in wanted) < 2e-6


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (recurrent("GRU", MOST_STEPS + 1), f"of {MOST_STEPS + 1} steps"),
        (recurrent("LSTM", clip=3.0), "with clip"),
        (recurrent("LSTM", input_forget=1), "with clip or input_forget"),
        (recurrent("RNN", activations=["LeakyRelu"], activation_alpha=[0.1]), "with parameters of activations"),
    ],
    ids=["steps", "clip", "input_forget", "activation"],
)
def test_refused_with_the_reason(proto: ModelProto, reason: str) -> None:
    facts = gather_facts(proto)
    assert limit(proto.graph.node[0], facts).startswith(reason)
    assert rewrite_operators(proto, facts) == ()

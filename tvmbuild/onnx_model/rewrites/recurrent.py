"""Unroll LSTM, GRU and RNN: TVM has no recurrent operators, and each step is small matrix products and activations.

The products of a gate with the inputs of all steps are one product before the first step; each step adds the product
with its state. The equations and the order of the gates are those of the ONNX operators' descriptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.rewrites.replacement import Emitted, Replacement, text

#: Steps that are unrolled at most: each is some kernel calls, and the compiler's time grows with them.
MOST_STEPS = 512
_DEFAULT_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_ACTIVATIONS = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")


def recurrent_limit(node: NodeProto, facts: Facts) -> str:
    """Return what of a recurrent node keeps it from being unrolled ("of 1000 steps"), or ""."""
    shape = facts.shapes.get(node.input[0])
    found = walk.attributes(node)
    inputs = [*node.input, *[""] * 8][:8]
    if shape is None:
        return "of unknown size"
    steps = shape[_axis_of_steps(node)]
    lengths = facts.array(inputs[4]) if inputs[4] else np.array(steps)
    if any(name and facts.array(name) is None for name in inputs[1:4]):
        return "whose weights are computed while the model runs"
    if lengths is None or np.any(lengths != steps):
        return "of sequences of several lengths"
    if steps > MOST_STEPS:
        return f"of {steps} steps (at most {MOST_STEPS} are unrolled)"
    if inputs[7]:
        return "with peepholes"
    if "clip" in found or ("input_forget" in found and found["input_forget"].i):
        return "with clip or input_forget"
    if {"activation_alpha", "activation_beta"} & found.keys() or not set(_activations(node)) <= set(_ACTIVATIONS):
        return "with parameters of activations"
    return ""


def unroll(node: NodeProto, facts: Facts) -> Replacement | None:
    """Return an LSTM, GRU or RNN as operators of each step, or None when ``recurrent_limit`` has something to say."""
    if recurrent_limit(node, facts):
        return None
    emitted = Emitted()
    prefix = next(name for name in node.output if name)
    layer = _layer(node, facts)
    data = node.input[0]
    if layer.batch_first:
        data = emitted.node("Transpose", [data], f"{prefix}__steps", perm=[1, 0, 2])
    flat = emitted.reshape(data, (layer.steps * layer.batch, -1), f"{prefix}__flat")
    directions = [_direction(node, layer, number, flat, facts, emitted) for number in range(layer.directions)]
    _write_outputs(node, layer, directions, emitted)
    return Replacement(tuple(emitted.nodes), tuple(emitted.constants))


@dataclass(frozen=True)
class _Layer:
    """What a recurrent node is: sizes and attributes."""

    operator: str
    steps: int
    batch: int
    hidden: int
    directions: int
    backwards: bool
    batch_first: bool
    reset_after: bool
    activations: tuple[str, ...]


@dataclass(frozen=True)
class _Direction:
    """What one direction made: the hidden state of each step, in the order of the data, and the last step's states."""

    states: list[str]
    last: str
    cell: str


@dataclass(frozen=True)
class _Step:
    """Emits the operators of one step.

    Attributes:
        prefix: of the names that it makes.
        inputs: by gate, the product with the step's input plus biases, [batch, hidden].
        recurrent: by gate, the weights of the state, [hidden, hidden].
        state_bias: of the new content of a GRU, [hidden].
        activations: in the node's order.
        reset_after: whether a GRU resets the product and not the state.
        emitted: where they go.
    """

    prefix: str
    inputs: tuple[str, ...]
    recurrent: tuple[str, ...]
    state_bias: str
    activations: tuple[str, ...]
    reset_after: bool
    emitted: Emitted

    def make(self, operator: str, name: str, *inputs: str) -> str:
        """Emit an operator and return its output."""
        return self.emitted.node(operator, list(inputs), self.prefix + name)

    def gate(self, number: int, name: str, activation: str, hidden: str) -> str:
        """Emit one gate: the activation of the input's part plus the product with the state."""
        product = self.make("MatMul", f"{name}_product", hidden, self.recurrent[number])
        return self.make(activation, name, self.make("Add", f"{name}_sum", product, self.inputs[number]))


def _lstm(step: _Step, hidden: str, cell: str) -> tuple[str, str]:
    gate, content, out = step.activations
    read, write, keep = (step.gate(number, name, gate, hidden) for number, name in enumerate(("in", "out", "forget")))
    new = step.gate(3, "content", content, hidden)
    kept = step.make("Mul", "kept", keep, cell)
    cell = step.make("Add", "cell", kept, step.make("Mul", "added", read, new))
    return step.make("Mul", "hidden", write, step.make(out, "shown", cell)), cell


def _gru(step: _Step, hidden: str, _cell: str) -> tuple[str, str]:
    gate, content = step.activations
    update, reset = (step.gate(number, name, gate, hidden) for number, name in enumerate(("update", "reset")))
    if step.reset_after:
        product = step.make("MatMul", "content_product", hidden, step.recurrent[2])
        own = step.make("Mul", "content_reset", reset, step.make("Add", "content_own", product, step.state_bias))
    else:
        product = step.make(
            "MatMul", "content_product", step.make("Mul", "reset_state", reset, hidden), step.recurrent[2]
        )
        own = step.make("Add", "content_own", product, step.state_bias)
    new = step.make(content, "content", step.make("Add", "content_sum", own, step.inputs[2]))
    # (1 - z) n + z h, with one multiplication less.
    change = step.make("Mul", "change", update, step.make("Sub", "difference", hidden, new))
    return step.make("Add", "hidden", new, change), ""


def _rnn(step: _Step, hidden: str, _cell: str) -> tuple[str, str]:
    return step.gate(0, "hidden", step.activations[0], hidden), ""


_STEPS: Mapping[str, Callable[[_Step, str, str], tuple[str, str]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _axis_of_steps(node: NodeProto) -> int:
    found = walk.attributes(node)
    return int(found["layout"].i) if "layout" in found else 0


def _activations(node: NodeProto) -> list[str]:
    found = walk.attributes(node)
    if "activations" not in found:
        return _DEFAULT_ACTIVATIONS[node.op_type] * 2
    return [name.decode() for name in found["activations"].strings]


def _layer(node: NodeProto, facts: Facts) -> _Layer:
    found = walk.attributes(node)
    shape, recurrent = facts.shapes[node.input[0]], facts.shapes[node.input[2]]
    axis = _axis_of_steps(node)
    return _Layer(
        operator=node.op_type,
        steps=shape[axis],
        batch=shape[1 - axis],
        hidden=recurrent[2],
        directions=recurrent[0],
        backwards=text(found, "direction", "forward") == "reverse",
        batch_first=axis == 1,
        reset_after="linear_before_reset" in found and bool(found["linear_before_reset"].i),
        activations=tuple(_activations(node)),
    )


def _direction(node: NodeProto, layer: _Layer, number: int, flat: str, facts: Facts, emitted: Emitted) -> _Direction:
    """Emit every step of one direction."""
    prefix = f"{next(name for name in node.output if name)}__{number}"
    gates = [*_gates(node, layer, number, facts)]
    recurrent = tuple(emitted.constant(f"{prefix}_{gate}__state", each.state.T) for gate, each in enumerate(gates))
    state_bias = emitted.constant(f"{prefix}__state_bias", gates[-1].state_bias)
    fed = []
    for gate, each in enumerate(gates):
        name = f"{prefix}_{gate}__input"
        product = emitted.node("MatMul", [flat, emitted.constant(f"{name}_weight", each.input.T)], f"{name}_product")
        biased = emitted.node("Add", [product, emitted.constant(f"{name}_bias", each.bias)], f"{name}_biased")
        fed.append(_by_step(biased, layer, name, emitted))
    count = len(layer.activations) // layer.directions
    own = layer.activations[number * count :][: len(_DEFAULT_ACTIVATIONS[layer.operator])]
    hidden = _first_state(node, 5, layer, number, prefix, emitted)
    cell = _first_state(node, 6, layer, number, prefix, emitted) if layer.operator == "LSTM" else ""
    states = [""] * layer.steps
    backwards = layer.backwards or number == 1
    for place in reversed(range(layer.steps)) if backwards else range(layer.steps):
        inputs = tuple(pieces[place] for pieces in fed)
        step = _Step(f"{prefix}_{place}__", inputs, recurrent, state_bias, own, layer.reset_after, emitted)
        hidden, cell = _STEPS[layer.operator](step, hidden, cell)
        states[place] = hidden
    return _Direction(states, hidden, cell)


@dataclass(frozen=True)
class _Gate:
    """Weights of a gate: of the input [hidden, features], of the state [hidden, hidden], and biases [hidden]."""

    input: np.ndarray
    state: np.ndarray
    bias: np.ndarray
    state_bias: np.ndarray


def _gates(node: NodeProto, layer: _Layer, number: int, facts: Facts) -> Iterator[_Gate]:
    kernel, recurrent = (np.asarray(facts.array(name))[number] for name in node.input[1:3])
    count = kernel.shape[0] // layer.hidden
    biases = np.zeros(2 * kernel.shape[0], kernel.dtype)
    if len(node.input) > 3 and node.input[3]:
        biases = np.asarray(facts.array(node.input[3]))[number]
    parts = zip(*(np.split(each, count) for each in (kernel, recurrent, *np.split(biases, 2))), strict=True)
    for place, (of_input, of_state, bias, state_bias) in enumerate(parts):
        # Only the new content of a GRU needs the state's bias on its own: it may be reset with the product.
        apart = layer.operator == "GRU" and place == count - 1
        yield _Gate(of_input, of_state, bias if apart else bias + state_bias, state_bias)


def _by_step(data: str, layer: _Layer, name: str, emitted: Emitted) -> list[str]:
    """Return rows of all steps as [batch, hidden] of each."""
    shaped = emitted.reshape(data, (layer.steps, layer.batch, layer.hidden), f"{name}_steps")
    pieces = [f"{name}_{step}" for step in range(layer.steps)]
    sizes = emitted.constant(f"{name}_sizes", np.ones(layer.steps, np.int64))
    emitted.nodes.append(helper.make_node("Split", [shaped, sizes], pieces, axis=0))
    return [emitted.reshape(piece, (layer.batch, layer.hidden), f"{piece}_row") for piece in pieces]


def _first_state(node: NodeProto, place: int, layer: _Layer, number: int, prefix: str, emitted: Emitted) -> str:
    """Return the state before the first step, [batch, hidden]."""
    name = f"{prefix}__first{place}"
    if len(node.input) <= place or not node.input[place]:
        return emitted.constant(name, np.zeros((layer.batch, layer.hidden), np.float32))
    picked = node.input[place]
    if layer.directions > 1:
        index = emitted.constant(f"{name}_number", np.array(number, np.int64))
        picked = emitted.node("Gather", [picked, index], f"{name}_picked", axis=1 if layer.batch_first else 0)
    return emitted.reshape(picked, (layer.batch, layer.hidden), name)


def _write_outputs(node: NodeProto, layer: _Layer, directions: list[_Direction], emitted: Emitted) -> None:
    """Put the states together as Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]."""
    wanted = [*node.output, "", "", ""][:3]
    states = [state for step in range(layer.steps) for state in (each.states[step] for each in directions)]
    found = (states, [each.last for each in directions], [each.cell for each in directions])
    for place, (output, rows) in enumerate(zip(wanted, found, strict=True)):
        if not output:
            continue
        joined = emitted.node("Concat", rows, f"{output}__joined", axis=0)
        leading = (layer.steps, layer.directions) if place == 0 else (layer.directions,)
        shape = (*leading, layer.batch, layer.hidden)
        if layer.batch_first:
            shaped = emitted.reshape(joined, shape, f"{output}__steps_first")
            emitted.node("Transpose", [shaped], output, perm=[2, 0, 1, 3] if place == 0 else [1, 0, 2])
        else:
            emitted.reshape(joined, shape, output)

"""Models: files that are damaged, and small ones that ask for a number of nodes, bytes or seconds without end."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from attacks.attempt import command
from attacks.mutate import bytes_of
from attacks.tally import Place, Tally, until

NAME = "ONNX files"
#: What a command on a model imports; once here instead of in each attempt.
_IMPORTED = ("onnx", "numpy", "tvm", "tvmbuild.inspection", "tvmbuild.pipeline")
#: Seconds that reading a bomb may take: the default of 300 would make the attack last too long.
BOMB_LIMIT = 40
#: A build of a bomb may do honest work until it meets a limit; all of them together may take this long, in seconds.
BOMB_SECONDS = 90.0
_ALL_SECONDS = 240.0


def attack(place: Place, seconds: float) -> Tally:
    """Have bombs inspected and built, then damaged files inspected."""
    for name in _IMPORTED:
        importlib.import_module(name)
    import onnx

    tally, folder, random = Tally(NAME), place.scratch("models"), Random(place.seed)
    end, left_out = time.monotonic() + _ALL_SECONDS, []
    for name, made in _bombs():
        if time.monotonic() > end:
            left_out.append(name)
            continue
        onnx.save(made, folder / "bomb.onnx")
        for arguments in (["inspect", "bomb.onnx"], ["build", "bomb.onnx", "-t", "host", "-o", "out"]):
            done = command([*arguments, "--limit", f"seconds={BOMB_LIMIT}"], folder, seconds=BOMB_SECONDS)
            tally.take(f"{name} to {arguments[0]}", done, may_pass=True)
    if left_out:
        tally.fail(f"there was no time for {'; '.join(left_out)}")
    whole = place.model.read_bytes()
    for number in until(seconds):
        (folder / "damaged.onnx").write_bytes(bytes_of(random, whole))
        tally.take(f"damaged model {number}", command(["inspect", "damaged.onnx"], folder), may_pass=True)
    return tally


def _bombs() -> Iterator[tuple[str, Any]]:
    """Yield small models that are valid in form and cost without end, by their names."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    node, own = helper.make_node, helper.make_opsetid("own", 1)

    def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def model(
        nodes: list[Any],
        *,
        weights: dict[str, Any] | None = None,
        functions: list[Any] | None = None,
        shape: Any = (1, 4),
    ) -> Any:
        constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
        graph = helper.make_graph(nodes, "g", [value("x", shape)], [value("y", shape)], constants)
        imports = [helper.make_opsetid("", 17), own]
        return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions or [])

    for count in (14, 24, 60):
        chain = [node("Add", ["x" if i == 0 else f"t{i}"] * 2, [f"t{i + 1}"]) for i in range(count)]
        yield f"a sum of {count} doublings", model([*chain, node("Relu", [f"t{count}"], ["y"])])
    for depth in (10, 20, 40):
        imports = [helper.make_opsetid("", 17), own]
        functions = [helper.make_function("own", "f0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], imports)]
        for i in range(depth):
            inner = [node(f"f{i}", ["a"], ["m"], domain="own"), node(f"f{i}", ["m"], ["b"], domain="own")]
            functions.append(helper.make_function("own", f"f{i + 1}", ["a"], ["b"], inner, imports))
        yield (
            f"functions that call 2^{depth} nodes",
            model([node(f"f{depth}", ["x"], ["y"], domain="own")], functions=functions),
        )
    ring = helper.make_function(
        "own", "f", ["a"], ["b"], [node("f", ["a"], ["b"], domain="own")], [helper.make_opsetid("", 17), own]
    )
    yield "a function that calls itself", model([node("f", ["x"], ["y"], domain="own")], functions=[ring])
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Add", ["v", "v"], ["w"])],
        "body",
        [value("i", (), TensorProto.INT64), value("c", (), TensorProto.BOOL), value("v", (1, 4))],
        [value("d", (), TensorProto.BOOL), value("w", (1, 4))],
    )
    loop = {"n": np.array(1 << 62), "k": np.array(True), "v0": np.ones((1, 4), "float32")}
    yield (
        "a constant loop of 2^62 rounds",
        model([node("Loop", ["n", "k", "v0"], ["q"], body=body), node("Add", ["x", "q"], ["y"])], weights=loop),
    )
    for size in (10**9, 2**62):
        made = [
            node("ConstantOfShape", ["s"], ["c"]),
            node("ReduceSum", ["c"], ["r"], keepdims=0),
            node("Add", ["x", "r"], ["y"]),
        ]
        yield f"a constant of {size:.0e} elements", model(made, weights={"s": np.array([size])})
    many = [node("ConstantOfShape", ["s"], [f"c{i}"]) for i in range(40)]
    many += [node("ReduceSum", [f"c{i}"], [f"r{i}"], keepdims=0) for i in range(40)]
    many += [node("Add", ["x" if i == 0 else f"z{i}", f"r{i}"], ["y" if i == 39 else f"z{i + 1}"]) for i in range(40)]
    yield "forty constants of 2 GB", model(many, weights={"s": np.array([500_000_000])})
    yield "1000 axes", model([node("Relu", ["x"], ["y"])], shape=(1,) * 1000)
    yield "an input of 2^60 elements", model([node("Relu", ["x"], ["y"])], shape=(2**30, 2**30))
    yield "no nodes", model([])
    yield "a node that feeds itself", model([node("Add", ["y", "x"], ["y"])])

    def branch(inner: Any) -> Any:
        return helper.make_graph([inner], "branch", [], [value("o", (1, 4))])

    # protobuf itself reads no more than 100 messages inside each other, three a branch.
    nested = node("Relu", ["x"], ["o"])
    for depth in range(25):
        other = branch(node("Neg", ["x"], ["o"]))
        nested = node("If", ["k"], ["y" if depth == 24 else "o"], then_branch=branch(nested), else_branch=other)
    yield "branches in branches, 25 deep", model([nested], weights={"k": np.array(True)})

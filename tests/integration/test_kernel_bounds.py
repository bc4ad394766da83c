"""Each index of each kernel, proven by TVM's analyzer to lie in its buffer; a run sees only what it happens to read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import onnx
import pytest
import tvm
import tvm_ffi
from kernel_cases import CASES, LARGE_CASES, make_model
from schedule_harness import build_module, lower
from tvm import ir, relax, s_tir, tirx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.schedules.tir.border import uses
from tvmbuild.schedules.tir.vector_loops import substitute
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration


class Prover:
    """Walks a scheduled PrimFunc with what is known of its variables at each place."""

    def __init__(self) -> None:
        self.analyzer = tvm.sym.Analyzer()
        self.lanes: list[Any] = []
        self.unproven: list[str] = []
        self.in_vectors: list[str] = []
        self.count = self.vectors = 0

    def walk(self, func: Any) -> None:
        tvm_ffi.structural_mutate(
            func.body,
            [
                (tirx.For, self._loop),
                (s_tir.SBlockRealize, self._block),
                (tirx.IfThenElse, self._branch),
                (tirx.Select, self._select),
                (ir.Call, self._call),
                (ir.TensorLoad, self._load),
                (tirx.BufferStore, self._store),
            ],
        )

    @contextmanager
    def _where(self, condition: Any, *, holds: bool = True) -> Iterator[None]:
        with ExitStack() as stack:
            for part in self._parts(condition) if holds else [tirx.Not(condition)]:
                stack.enter_context(self.analyzer.constraint_scope(self.analyzer.simplify(part)))
            yield

    def _parts(self, condition: Any) -> list[Any]:
        if isinstance(condition, tirx.And):
            return [*self._parts(condition.a), *self._parts(condition.b)]
        return [condition]

    def _loop(self, loop: Any, mutator: Any) -> Any:
        self.analyzer.bind(loop.loop_var, ir.Range.from_min_extent(loop.min, loop.extent), allow_override=True)
        vector = loop.kind == tirx.ForKind.VECTORIZED
        self.vectors += vector
        self.lanes += [loop.loop_var] * vector
        mutator.default_mutate(loop)
        del self.lanes[len(self.lanes) - vector :]
        return loop

    def _block(self, realize: Any, mutator: Any) -> Any:
        body, init = realize.block.body, realize.block.init
        for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            simple = self.analyzer.simplify(value)
            body = substitute(body, axis.var, simple)
            init = init if init is None else substitute(init, axis.var, simple)
        with self._where(realize.predicate):
            mutator.mutate(body)
            if init is not None:
                mutator.mutate(init)
        return realize

    def _decide(self, node: Any, condition: Any, one: Any, other: Any, mutator: Any) -> Any:
        mutator.mutate(condition)
        simple = self.analyzer.simplify(condition)
        if any(uses(simple, lane) for lane in self.lanes):
            self.in_vectors.append(str(simple))
        # What is known to be false is never computed, so its indices are free.
        if not self.analyzer.can_prove(tirx.Not(simple)):
            with self._where(condition):
                mutator.mutate(one)
        if other is not None and not self.analyzer.can_prove(simple):
            with self._where(condition, holds=False):
                mutator.mutate(other)
        return node

    def _branch(self, node: Any, mutator: Any) -> Any:
        return self._decide(node, node.condition, node.then_case, node.else_case, mutator)

    def _select(self, node: Any, mutator: Any) -> Any:
        # Both sides are computed, so nothing may lean on the condition.
        return mutator.default_mutate(node)

    def _call(self, call: Any, mutator: Any) -> Any:
        if isinstance(call.op, ir.Op) and call.op.name == "prim.if_then_else":
            return self._decide(call, *call.args, mutator)
        return mutator.default_mutate(call)

    def _load(self, load: Any, mutator: Any) -> Any:
        self._check(load.source, load.indices)
        return mutator.default_mutate(load)

    def _store(self, store: Any, mutator: Any) -> Any:
        self._check(store.buffer, store.indices)
        return mutator.default_mutate(store)

    def _check(self, buffer: Any, indices: Any) -> None:
        for index, extent in zip(indices, buffer.shape, strict=True):
            self.count += 1
            simple = self.analyzer.simplify(index)
            if not (self.analyzer.can_prove(simple >= 0) and self.analyzer.can_prove(simple < extent)):
                self.unproven.append(f"{buffer.name}[{index}] of {extent}")


@pytest.fixture(scope="module", params=["rpi4", "rpi5"])
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the scheduled kernels of all cases."""
    found = {}
    target = load_target(request.param)
    for label, cases in (("small", CASES), ("large", LARGE_CASES)):
        proto, _ = make_model(cases)
        path: Path = tmp_path_factory.mktemp(label) / "kernels.onnx"
        onnx.save(proto, path)
        mod = optimize(to_relax(prepare(path)), target, kernels=schedules)[0]
        found |= {
            f"{label} {var.name_hint}": func for var, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)
        }
    return found


def test_each_index_lies_in_its_buffer(functions: dict[str, Any]) -> None:
    unproven, count = {}, 0
    for name, func in functions.items():
        prover = Prover()
        prover.walk(func)
        count += prover.count
        if prover.unproven:
            unproven[name] = prover.unproven[:3]
    assert count > 5000
    assert any("winograd" in name for name in functions)
    assert unproven == {}


@pytest.mark.parametrize("target", ["rpi4", "rpi5"])
@pytest.mark.parametrize("widths", [(3, 5), (33, 14, 1), (16, 16), (4, 7, 9, 2), (1, 64)])
def test_no_vector_crosses_the_border_of_a_concatenation(target: str, widths: tuple[int, ...]) -> None:
    """A vector with a condition for each lane is computed lane by lane."""
    shapes = [(1, 3, 5, width) for width in widths]
    body = build_module(shapes, lambda *parts: relax.op.concat(list(parts), axis=-1))
    mod, reports = lower(body, target)
    (func,) = [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]
    prover = Prover()
    prover.walk(func)
    assert [report.kind for report in reports] == ["data_movement"]
    assert prover.vectors > 0
    assert prover.in_vectors == []
    assert prover.unproven == []

"""Proves with TVM's analyzer that each index of a PrimFunc lies in its buffer, and finds conditions within vectors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, s_tir, tirx

from tvmbuild.schedules.tir.rewrite import substitute, uses


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

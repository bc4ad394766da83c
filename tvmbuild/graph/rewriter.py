"""Rebuild a module's ``main`` binding by binding while a rule replaces some of them.

Every pass of this package is a rule: it looks at one operator call whose arguments are already rewritten, and returns
what shall stand in its place or None to keep it. Bindings that nobody uses afterwards are dropped, so a rule that folds
an operator into its producer need not remove the producer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvmbuild.support.errors import UnsupportedOperatorError

#: A Relax expression, a variable and a call; tvm has no type information for a checker.
Expr = Any
Var = Any
Call = Any
IRModule = Any

Rule = Callable[["Rewriter", Var, Expr], "Expr | None"]

MAIN = "main"


class Rewriter:
    """What a rule sees of the function that is being rebuilt."""

    def __init__(self, mod: IRModule) -> None:
        """Count how often each variable of ``main`` is used."""
        self._function = mod[MAIN]
        self._bindings = flat_bindings(self._function)
        self._old_uses = _count_uses(self._function, self._bindings)
        self._builder = relax.BlockBuilder()
        self._replacement: dict[Var, Expr] = {}
        self._definition: dict[Var, Expr] = {}
        self._uses: Counter[Var] = Counter({param: self._old_uses[param] for param in self._function.params})
        self._fresh: set[Var] = set()
        self._new_bindings: list[tuple[Var, Expr]] = []

    def producer(self, expr: Expr) -> Expr | None:
        """Return the value bound to a variable of the new function, or None for inputs and constants."""
        return self._definition.get(expr) if isinstance(expr, relax.Var) else None

    def producer_of(self, expr: Expr, *names: str) -> Call | None:
        """Return the call that computes ``expr`` if its operator is one of ``names`` ("nn.conv2d")."""
        value = self.producer(expr)
        return value if op_name(value) in names else None

    def current(self, old: Var) -> Expr:
        """Return what stands in the new function for a variable of the old one that was bound before."""
        return self._replacement.get(old, old)

    def uses(self, expr: Expr) -> int:
        """Return how many arguments and outputs refer to a variable of the new function."""
        return self._uses[expr]

    def readers(self, old: Var) -> tuple[str, ...]:
        """Return the operators that read a variable of the old function."""
        return tuple(op_name(value) for _, value in self._bindings if old in used_vars(value))

    def emit(self, value: Expr, name: str = "folded") -> Var:
        """Bind a new intermediate value and return its variable."""
        var = self._bind(value, name)
        self._fresh.add(var)
        return var

    def run(self, rule: Rule) -> Any:
        """Apply ``rule`` to each binding in order and return the new function."""
        for var, value in self._bindings:
            new_value = substitute(value, self._replacement)
            if new_value is not value:
                new_value = self._builder.normalize(new_value)
            result = rule(self, var, new_value)
            if result is None and new_value is value and isinstance(var, relax.DataflowVar):
                # Keeping the variable keeps all that reads it as it is.
                self._record(var, value)
                self._uses[var] = self._old_uses[var]
            else:
                self._replace(var, new_value if result is None else result)
        return self._build()

    def _replace(self, old: Var, result: Expr) -> None:
        uses = self._old_uses[old]
        if isinstance(result, relax.Var):
            # The old binding was itself one use of what replaces it.
            self._uses[result] += uses - (0 if result in self._fresh else 1)
            self._replacement[old] = result
        elif is_constant(result):
            self._replacement[old] = result
        else:
            new = self._bind(result, old.name)
            self._uses[new] = uses
            self._replacement[old] = new

    def _bind(self, value: Expr, name: str) -> Var:
        if value.ty.is_missing():
            value = self._builder.normalize(value)
        var = relax.DataflowVar(name, value.ty)
        self._record(var, value)
        return var

    def _record(self, var: Var, value: Expr) -> None:
        for used in used_vars(value) if self._fresh else ():
            if used in self._fresh:
                self._uses[used] += 1
        self._definition[var] = value
        self._new_bindings.append((var, value))

    def _build(self) -> Any:
        result = substitute(self._function.body.body, self._replacement)
        needed = set(used_vars(result))
        kept: list[Any] = []
        for var, value in reversed(self._new_bindings):
            if var in needed:
                needed.update(used_vars(value))
                kept.append(relax.VarBinding(var, value))
        kept.reverse()
        result = self._builder.normalize(result)
        if isinstance(result, relax.DataflowVar):
            output = relax.Var(result.name, result.ty)
            kept = [_with_output(binding, result, output) for binding in kept]
            result = output
        elif not isinstance(result, relax.Var):
            output = relax.Var("result", result.ty)
            kept.append(relax.VarBinding(output, result))
            result = output
        body = self._builder.normalize(relax.SeqExpr([relax.DataflowBlock(kept)], result))
        return relax.Function(list(self._function.params), body, result.ty, True, self._function.attrs)


def _with_output(binding: Any, old: Var, new: Var) -> Any:
    """Rename the variable that leaves the dataflow block, in one binding."""
    var = new if binding.var == old else binding.var
    return relax.VarBinding(var, substitute(binding.value, {old: new}))


def rewrite(mod: IRModule, rule: Rule) -> IRModule:
    """Return ``mod`` with ``rule`` applied to every binding of its ``main``."""
    function = Rewriter(mod).run(rule)
    return replace_main(mod, function)


def replace_main(mod: IRModule, function: Any) -> IRModule:
    """Return a copy of ``mod`` with another ``main``."""
    functions = {var: func for var, func in mod.functions_items() if var.name_hint != MAIN}
    return tvm.IRModule({**functions, mod.get_global_var(MAIN): function}, attrs=mod.attrs)


def flat_bindings(function: Any) -> list[tuple[Var, Expr]]:
    """List the (variable, value) pairs of a function without branches (``flatten`` removes them).

    Raises:
        UnsupportedOperatorError: the function has control flow.
    """
    pairs: list[tuple[Var, Expr]] = []
    for block in function.body.blocks:
        for binding in block.bindings:
            if not isinstance(binding, relax.VarBinding) or isinstance(binding.value, relax.If):
                raise control_flow_error()
            pairs.append((binding.var, binding.value))
    return pairs


def control_flow_error() -> UnsupportedOperatorError:
    """Return the error for what cannot become a straight line of operators."""
    return UnsupportedOperatorError(
        "The model has control flow or shapes that depend on its data.",
        "Export it with fixed shapes and without If, Loop or Scan.",
    )


def _count_uses(function: Any, bindings: Sequence[tuple[Var, Expr]]) -> Counter[Var]:
    uses: Counter[Var] = Counter()
    for _, value in bindings:
        uses.update(used_vars(value))
    uses.update(used_vars(function.body.body))
    return uses


def used_vars(value: Expr) -> list[Var]:
    """List the variables that a value refers to, one entry per occurrence."""
    if isinstance(value, relax.Var):
        return [value]
    if isinstance(value, relax.Tuple):
        return [var for field in value.fields for var in used_vars(field)]
    if isinstance(value, relax.TupleGetItem):
        return used_vars(value.tuple_value)
    if isinstance(value, relax.Call):
        return [var for arg in value.args for var in used_vars(arg)]
    return []


def substitute(value: Expr, replacement: dict[Var, Expr]) -> Expr:
    """Return ``value`` with variables replaced, keeping the object where nothing changes."""
    if isinstance(value, relax.Var):
        return replacement.get(value, value)
    if not any(var in replacement for var in used_vars(value)):
        return value
    if isinstance(value, relax.Tuple):
        return relax.Tuple([substitute(field, replacement) for field in value.fields])
    if isinstance(value, relax.TupleGetItem):
        inner = substitute(value.tuple_value, replacement)
        return relax.TupleGetItem(inner, value.index)
    return relax.Call(value.op, [substitute(arg, replacement) for arg in value.args], value.attrs, value.ty_args)


def op_name(value: Expr | None) -> str:
    """Return the operator of a call without its namespace ("nn.conv2d"), or "" for anything else."""
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        return ""
    return str(value.op.name).removeprefix("relax.")


def is_constant(expr: Expr) -> bool:
    """Whether an expression is a tensor known at build time."""
    return isinstance(expr, tvm.ir.GenericConst) and isinstance(expr.ty, relax.TensorType)


def array(expr: Expr) -> np.ndarray[Any, Any]:
    """Return the value of a constant."""
    return np.asarray(expr.value.numpy())


def constant(value: np.ndarray[Any, Any]) -> Expr:
    """Return a constant of the array's own dtype."""
    return relax.const(np.asarray(value, order="C"), str(value.dtype))


def shape_of(expr: Expr) -> tuple[int, ...]:
    """Return the static shape of a tensor expression.

    Raises:
        UnsupportedOperatorError: a dimension is symbolic or unknown.
    """
    shape = getattr(expr.ty, "shape", None)
    try:
        return tuple(int(size) for size in shape)  # type: ignore[union-attr]
    except TypeError as error:
        raise UnsupportedOperatorError(
            f"The shape of {expr} is not known at build time.", "Give every input a fixed shape with --shape."
        ) from error


def split_sections(split: Call) -> int | list[int]:
    """Return the number of equal sections of a split, or the indices where it cuts."""
    sections = split.attrs.indices_or_sections
    count = getattr(sections, "value", sections)
    return count if isinstance(count, int) else [int(index) for index in sections]


def dtype_of(expr: Expr) -> str:
    """Return NumPy's name of a tensor expression's element type."""
    return str(expr.ty.dtype)

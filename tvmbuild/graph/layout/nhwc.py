"""Keep activations in NHWC from end to end.

Kernels want the channels of a pixel side by side: they are what a convolution sums over and what its vectors hold, and
a 1x1 convolution then is a plain matrix product. ONNX is NCHW. Each convolution, pooling and resizing is rewritten to
NHWC between two transpositions; what lies between them follows (layout_followers.py), the transpositions cancel, and
those that stay are at the borders: the model's inputs and outputs, and operators that insist on an order.

TVM's ConvertLayout has the same aim, but fails on a concatenation and does not cancel through reshapes.
"""

from __future__ import annotations

from tvm import relax

from tvmbuild.graph.counted import Uncounted, rewrite_counted
from tvmbuild.graph.layout.anchors import ANCHOR_RULES
from tvmbuild.graph.layout.followers import follow
from tvmbuild.graph.operators import Layout, operator
from tvmbuild.graph.report import Kept, PassReport
from tvmbuild.graph.rewriter import MAIN, Expr, IRModule, Rewriter, Var, flat_bindings, op_name, used_vars
from tvmbuild.graph.simplify import simplify


def to_channels_last(mod: IRModule) -> tuple[IRModule, tuple[PassReport, PassReport]]:
    """Rewrite ``main`` to NHWC; its inputs and outputs keep their layout.

    Returns:
        The module, and what was counted: operators rewritten, and transpositions that cancelled of the two around each
        of them and those that the model had.
    """

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | Uncounted | None:
        name = op_name(value)
        anchor = ANCHOR_RULES.get(name)
        if anchor is not None:
            result = anchor(rewriter, value)
            return result if result is not None else Uncounted(kept=Kept(_short(name), "its layout is not NCHW"))
        stays = operator(name).layout is Layout.CHANNELS_FIRST
        kept = Kept(_short(name), "there is no kernel for it in NHWC") if stays else None
        return Uncounted(follow(rewriter, value), kept)

    before = sum(op_name(value) == "permute_dims" for _, value in flat_bindings(mod[MAIN]))
    mod, report = rewrite_counted(mod, "layout", "image operators in NHWC", rule)
    mod, _ = simplify(relax.transform.EliminateCommonSubexpr()(mod))
    left = _transpositions(mod)
    cancelled = max(0, before + 2 * report.applied - len(left))
    return mod, (report, PassReport("transpositions", "transpositions cancelled", cancelled, left))


def _short(name: str) -> str:
    return name.removeprefix("nn.")


def _transpositions(mod: IRModule) -> tuple[Kept, ...]:
    """List the transpositions of ``main``, with what asks for each."""
    function = mod[MAIN]
    bindings = flat_bindings(function)
    outputs = set(used_vars(function.body.body))
    for var, value in bindings:
        if var in outputs and isinstance(value, relax.Tuple):
            outputs.update(used_vars(value))
    return tuple(
        Kept(var.name, _why(var, value, bindings, outputs, list(function.params)))
        for var, value in bindings
        if op_name(value) == "permute_dims"
    )


def _why(var: Var, value: Expr, bindings: list[tuple[Var, Expr]], outputs: set[Var], inputs: list[Var]) -> str:
    if value.args[0] in inputs:
        return "an input of the model is in another layout"
    if var in outputs:
        return "an output of the model is in another layout"
    readers = [op_name(other) for _, other in bindings if var in used_vars(other)]
    return f"{readers[0].removeprefix('nn.') or 'a tuple'} reads its operand in another layout"

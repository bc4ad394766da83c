"""Compute quantized models in integers.

A QDQ model says with pairs of quantize and dequantize which tensors are int8. Here each convolution and matrix product
of dequantized operands becomes one of their integers, and what follows it (bias, residual, activation, quantize)
becomes its epilogue, by way of the values of ``quantized``. B. Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (2018), is the scheme; the factor of the epilogue stays a
float32, which NEON multiplies as fast as an integer and rounds exactly.

uint8 codes become int8 by moving their zero point by 128.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import relax

from tvmbuild.graph import operators
from tvmbuild.graph.fold.affine import per_channel
from tvmbuild.graph.integers import kernels as epilogues
from tvmbuild.graph.integers.products import (
    IntegerKernels,
    integer_weights,
    macs_of,
    product,
    value_of_sums,
    with_bias,
)
from tvmbuild.graph.integers.quantized import (
    MOST_TERMS,
    Codes,
    Term,
    Value,
    Weights,
    parameters_of,
    value_of,
    weights_of,
)
from tvmbuild.graph.integers.views import on_codes
from tvmbuild.graph.kernel_operator import mark_operators, naming
from tvmbuild.graph.report import Kept, MacShare, PassReport
from tvmbuild.graph.rewriter import (
    MAIN,
    Call,
    Expr,
    IRModule,
    Rewriter,
    Var,
    constant,
    dtype_of,
    flat_bindings,
    is_constant,
    op_name,
    rewrite,
    shape_of,
)
from tvmbuild.target.target import Target

#: Most codes whose sum, with the zero point, surely fits into int32.
_MOST_ADDED = 2**22


def is_quantized(mod: IRModule) -> bool:
    """Whether a module has a quantize or dequantize."""
    return any(op_name(value) in ("quantize", "dequantize") for _, value in flat_bindings(mod[MAIN]))


def quantize_graph(mod: IRModule, kernels: IntegerKernels, target: Target) -> tuple[IRModule, PassReport, MacShare]:
    """Rewrite the quantized products of ``main``, which is in NHWC, to integer kernels with epilogues.

    Returns:
        The module, what became of each convolution and matrix product, and how many multiply-accumulates are int8.
    """
    quantizer = _Quantizer(mod, kernels, target)
    rewritten = rewrite(mod, quantizer.rule)
    result = mark_operators(quantizer.builder.finalize(), quantizer.operators)
    result.update_func(result.get_global_var(MAIN), rewritten[MAIN])
    report = PassReport(
        "quantize", "convolutions and matrix products in int8", quantizer.applied, tuple(quantizer.kept)
    )
    return result, report, MacShare(quantizer.int8_macs, quantizer.macs)


class _Quantizer:
    """What is known of the new function's variables, and the rule that rewrites it."""

    def __init__(self, mod: IRModule, kernels: IntegerKernels, target: Target) -> None:
        #: Operators of the kernels that are made here, by name.
        self.operators: dict[str, str] = {}
        self.builder = naming(relax.BlockBuilder(mod), self.operators)
        self.kernels = kernels
        self.target = target
        self.applied = self.macs = self.int8_macs = 0
        self.kept: list[Kept] = []
        #: Float variables, by what they are made of.
        self.values: dict[Var, Value] = {}
        #: int8 and uint8 variables that a quantize made.
        self.codes: dict[Var, Codes] = {}
        #: Float variables that are dequantized constants.
        self.weights: dict[Var, Weights] = {}
        #: Tuples that a split of codes made.
        self.splits: dict[Var, Value] = {}

    def rule(self, rewriter: Rewriter, var: Var, value: Expr) -> Expr | None:
        """Rewrite one binding (see ``rewriter.Rule``)."""
        if isinstance(value, relax.TupleGetItem) and value.tuple_value in self.splits:
            piece = rewriter.emit(value, "codes")
            return self._moved(rewriter, self.splits[value.tuple_value], piece)
        name = op_name(value)
        if name == "dequantize":
            return self._dequantize(rewriter, value)
        if name == "quantize":
            return self._quantize(rewriter, value)
        is_product = operators.operator(name).codes is operators.Codes.PRODUCT
        result = self._product(rewriter, var, value) if is_product else None
        if result is None:
            result = self._described(rewriter, name, value)
        return result if result is not None else self._in_float(rewriter, value)

    def _dequantize(self, rewriter: Rewriter, call: Call) -> Expr | None:
        weights = weights_of(call)
        if weights is not None:
            kept = rewriter.emit(call, "weights")
            self.weights[kept] = weights
            return kept
        data, parameters = call.args[0], parameters_of(call)
        codes = self.codes.get(data)
        if codes is None and parameters is not None and parameters.is_per_tensor:
            codes = self._outside_codes(rewriter, data, float(parameters.scale), int(parameters.zero))
        return None if codes is None else self._as_float(rewriter, value_of(codes))

    def _outside_codes(self, rewriter: Rewriter, data: Expr, scale: float, zero: int) -> Codes | None:
        """Return the codes of an 8 bit tensor that no quantize of ours made, such as an input of the model."""
        dtype = dtype_of(data)
        if dtype == "int8":
            return Codes(data, scale, zero)
        return (
            Codes(rewriter.emit(epilogues.shift(self.builder, data), "codes"), scale, zero - 128)
            if dtype == "uint8"
            else None
        )

    def _quantize(self, rewriter: Rewriter, call: Call) -> Expr | None:
        parameters, dtype = parameters_of(call), dtype_of(call)
        if parameters is None or not parameters.is_per_tensor or dtype not in ("int8", "uint8"):
            return self._in_float(rewriter, call)
        scale, zero = float(parameters.scale), int(parameters.zero) - (128 if dtype == "uint8" else 0)
        tensor = self._rounded(rewriter, call.args[0], scale, zero)
        result = tensor if dtype == "int8" else rewriter.emit(epilogues.shift(self.builder, tensor), "codes")
        self.codes[result] = Codes(tensor, scale, zero)
        return result

    def _rounded(self, rewriter: Rewriter, data: Expr, scale: float, zero: int) -> Expr:
        """Return an int8 variable with the codes of ``data``."""
        parts = rewriter.producer_of(data, "concat")
        if parts is not None and rewriter.uses(data) == 1 and isinstance(parts.args[0], relax.Tuple):
            fields = [self._rounded(rewriter, field, scale, zero) for field in parts.args[0].fields]
            return rewriter.emit(relax.op.concat(fields, axis=int(parts.attrs.axis or 0)), "codes")
        value = self._operand(rewriter, data)
        if value is None:
            return rewriter.emit(
                epilogues.round_to_codes(self.builder, self._number(rewriter, data), scale, zero), "codes"
            )
        codes = value.codes
        if codes is not None and (codes.scale, codes.zero) == (scale, zero):
            return self._int8(rewriter, value, codes)
        return rewriter.emit(epilogues.requantize(self.builder, value, scale, zero), "codes")

    def _int8(self, rewriter: Rewriter, value: Value, codes: Codes) -> Expr:
        """Return the codes within a value's bounds, which are whole steps or not below a step's accuracy."""
        if not value.is_bounded:
            return codes.tensor
        bounds = value.code_bounds()
        if bounds is None:
            return rewriter.emit(epilogues.requantize(self.builder, value, codes.scale, codes.zero), "codes")
        return rewriter.emit(epilogues.clip_codes(self.builder, codes.tensor, *bounds), "codes")

    def _operand(self, rewriter: Rewriter, expr: Expr) -> Value | None:
        """Return what a float operand is made of, if its reader may compute it (again, where that costs little)."""
        value = self.values.get(expr) if isinstance(expr, relax.Var) else None
        if value is None or (value.codes is None and rewriter.uses(expr) > 1):
            return None
        return value

    def _as_float(self, rewriter: Rewriter, value: Value) -> Var:
        """Return a variable that holds a value in float32; it is dropped if nobody wants the numbers."""
        var = rewriter.emit(epilogues.dequantize(self.builder, value), "real")
        self.values[var] = value
        return var

    def _product(self, rewriter: Rewriter, var: Var, call: Call) -> Expr | None:
        macs = macs_of(call)
        self.macs += macs
        outcome = self._integer_product(rewriter, call)
        if isinstance(outcome, str):
            self.kept.append(Kept(f"{op_name(call).removeprefix('nn.')} {var.name}", outcome))
            return None
        self.applied += 1
        self.int8_macs += macs
        return outcome

    def _integer_product(self, rewriter: Rewriter, call: Call) -> Expr | str:
        data, weight = call.args
        if op_name(call) == "nn.conv2d_transpose":
            return "there is no integer kernel for it"
        if is_constant(weight) or is_constant(data):
            return "its weights are not quantized"
        weights, value = self.weights.get(weight), self.values.get(data)
        codes = value.codes if value is not None else None
        if weights is None:
            known = rewriter.producer_of(weight, "dequantize")
            return "its weights are computed at run time" if known is None else "its weights are not of 8 bits"
        if value is None or codes is None:
            return "its input is not quantized to 8 bits"
        if op_name(call) == "nn.conv2d" and str(call.attrs.data_layout) != "NHWC":
            return f"its layout is {call.attrs.data_layout}"
        parts = integer_weights(call, weights)
        if isinstance(parts, str):
            return parts
        codes = Codes(self._int8(rewriter, value, codes), codes.scale, codes.zero)
        sums, *others = (
            rewriter.emit(product(self.builder, self.kernels, call, codes, part, self.target), "sums") for part in parts
        )
        for other in others:
            sums = rewriter.emit(relax.op.add(other, sums), "sums")
        return self._as_float(rewriter, value_of_sums(sums, call, codes, parts, weights))

    def _described(self, rewriter: Rewriter, name: str, call: Expr) -> Expr | None:
        """Return the result of an operator that only changes what a value is made of."""
        if name in ("nn.relu", "clip"):
            value = self._operand(rewriter, call.args[0])
            low, high = (0.0, np.inf) if name == "nn.relu" else (float(call.args[1].value), float(call.args[2].value))
            return None if value is None else self._as_float(rewriter, value.bounded(low, high))
        if name == "add":
            value = self._sum(rewriter, call)
            return None if value is None else self._as_float(rewriter, value)
        if name == "permute_dims" and call.args[0] in self.weights:
            return self._transposed(rewriter, call)
        value = self.values.get(call.args[0]) if name and isinstance(call.args[0], relax.Var) else None
        codes = value.codes if value is not None else None
        if name == "mean" and value is not None and codes is not None:
            return self._mean(rewriter, call, value, codes)
        moved = on_codes(call, codes) if codes is not None else None
        if value is None or moved is None:
            return None
        result = rewriter.emit(moved, "codes")
        if name == "split":
            self.splits[result] = value
            return result
        return self._moved(rewriter, value, result)

    def _moved(self, rewriter: Rewriter, value: Value, tensor: Var) -> Expr:
        """Return the float variable for codes that an operator moved."""
        codes = value.codes
        assert codes is not None
        moved = value_of(Codes(tensor, codes.scale, codes.zero))
        return self._as_float(rewriter, moved.bounded(value.low, value.high))

    def _mean(self, rewriter: Rewriter, call: Call, value: Value, codes: Codes) -> Expr | None:
        """Return the mean of codes: their sum in int32, exact, with the count in its factor."""
        shape = shape_of(call.args[0])
        axes = range(len(shape)) if call.attrs.axis is None else [int(axis) % len(shape) for axis in call.attrs.axis]
        count = math.prod(shape[axis] for axis in axes)
        if count > _MOST_ADDED:
            return None
        tensor = self._int8(rewriter, value, codes)
        sums = rewriter.emit(epilogues.sum_codes(self.builder, tensor, list(axes), bool(call.attrs.keepdims)), "sums")
        term = Term(sums, np.array(-codes.zero * count), np.array(codes.scale / count))
        return self._as_float(rewriter, Value((term,)))

    def _transposed(self, rewriter: Rewriter, call: Call) -> Var:
        weights = self.weights[call.args[0]]
        rank = weights.integers.ndim
        axes = list(reversed(range(rank))) if call.attrs.axes is None else [int(a) % rank for a in call.attrs.axes]
        kept = rewriter.emit(call, "weights")
        self.weights[kept] = weights.transposed(axes)
        return kept

    def _sum(self, rewriter: Rewriter, call: Call) -> Value | None:
        """Return the sum with a bias or with another value of the same shape."""
        left, right = call.args
        if is_constant(left):
            left, right = right, left
        value = self._operand(rewriter, left)
        if value is None or value.is_bounded or shape_of(left) != shape_of(call):
            return None
        if is_constant(right):
            rank, channels = len(shape_of(call)), shape_of(call)[-1]
            bias = per_channel(right, rank, rank - 1, channels)
            return None if bias is None else with_bias(value, bias if bias.size > 1 else bias.reshape(()))
        other = self._operand(rewriter, right)
        if other is None or other.is_bounded or shape_of(right) != shape_of(call) or left == right:
            return None
        terms = value.terms + other.terms
        return Value(terms, value.shift + other.shift) if len(terms) <= MOST_TERMS else None

    def _in_float(self, rewriter: Rewriter, value: Expr) -> Expr | None:
        """Return a call that stays in float, reading dequantized operands of its own; None where it has none."""
        if not isinstance(value, relax.Call):
            return None
        args = [self._number(rewriter, arg) for arg in value.args]
        if all(new is old for new, old in zip(args, value.args, strict=True)):
            return None
        return relax.Call(value.op, args, value.attrs, value.ty_args)

    def _number(self, rewriter: Rewriter, arg: Expr) -> Expr:
        """Return an operand in float32: weights as a constant, codes dequantized for this reader alone."""
        if isinstance(arg, relax.Tuple):
            fields = [self._number(rewriter, field) for field in arg.fields]
            return relax.Tuple(fields) if any(a is not b for a, b in zip(fields, arg.fields, strict=True)) else arg
        if not isinstance(arg, relax.Var):
            return arg
        if arg in self.weights:
            return constant(self.weights[arg].floats)
        value = self.values.get(arg)
        if value is None or value.codes is None:
            return arg
        real = rewriter.emit(epilogues.dequantize(self.builder, value), "real")
        # Whoever rounds it again, behind a concat, goes back to the codes.
        self.values[real] = value
        return real

"""Make the kernels of stages for strips of rows: the same operators on fewer rows, with other padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
from tvm import relax

from tvmbuild.graph.rewriter import MAIN, Call, Expr, IRModule, Var, dtype_of, flat_bindings, op_name, shape_of
from tvmbuild.graph.strips.rows import Part, Range
from tvmbuild.graph.strips.stage import Stage, padding_of
from tvmbuild.schedules.gemm.tile_plan import plan_conv2d
from tvmbuild.schedules.legalize.conv2d import geometry_of
from tvmbuild.schedules.legalize.conv2d_choices import PlanKey, Plans, name_of, plan_choices, plan_key
from tvmbuild.schedules.registry import NAIVE, KernelReport
from tvmbuild.schedules.tir.serial_loops import serial
from tvmbuild.target.target import Target

#: Legalizes, fuses and schedules a module of operators by plans of convolutions.
Maker = Callable[[IRModule, Plans], tuple[IRModule, tuple[KernelReport, ...]]]


@dataclass(frozen=True)
class Order:
    """A kernel that is wanted: a stage on some rows.

    Attributes:
        stage: its number.
        rows: how many of the output.
        reads: of each source, how many rows, and the padding above and below them.
    """

    stage: int
    rows: int
    reads: tuple[tuple[int, int, int], ...]


def order(stage: int, rows: Range, reads: Sequence[Part]) -> Order:
    """Return the order for a piece of work: where its rows lie does not matter."""
    counts = tuple((part.rows[1] - part.rows[0], part.top, part.bottom) for part in reads)
    return Order(stage, rows[1] - rows[0], counts)


@dataclass(frozen=True)
class Made:
    """A kernel.

    Attributes:
        function: scheduled, opens no threads.
        arguments: of each parameter but the output, in order: the number of a source of the stage, or a constant.
        report: how it was scheduled.
    """

    function: Any
    arguments: tuple[Any, ...]
    report: KernelReport


@dataclass
class _Emitted:
    params: list[Var] = field(default_factory=list)
    #: By parameter: the number of the order, and of the source.
    meaning: dict[Var, tuple[int, int]] = field(default_factory=dict)
    plans: dict[PlanKey, str] = field(default_factory=dict)


def make_kernels(
    stages: Sequence[Stage], orders: Sequence[Order], named: Sequence[str], target: Target, make: Maker
) -> list[Made | None]:
    """Return the kernels of orders; None for one that is more than one kernel, or that has no schedule.

    Args:
        stages: what the orders number.
        orders: each once.
        named: by stage, the name of its convolution's plan.
        target: the board.
        make: legalizes, fuses and schedules.
    """
    if not orders:
        return []
    emitted = _Emitted()
    builder = relax.BlockBuilder()
    for number, each in enumerate(orders):
        for index, source in enumerate(stages[each.stage].sources):
            _, _, *rest = shape_of(source.var)
            shape = (1, each.reads[index][0], *rest)
            param = relax.Var(f"x{number}_{index}", relax.TensorType(shape, dtype_of(source.var)))
            emitted.params.append(param)
            emitted.meaning[param] = (number, index)
    by_order = iter(emitted.params)
    with builder.function(MAIN, emitted.params):
        with builder.dataflow():
            results = []
            for each in orders:
                stage = stages[each.stage]
                own = [next(by_order) for _ in stage.sources]
                results.append(_emit(builder, stage, each, own, named[each.stage], target, emitted.plans))
            outcome = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(outcome)
    mod, reports = make(builder.get(), emitted.plans)
    return _read(mod, reports, emitted.meaning)


def _emit(
    builder: Any,
    stage: Stage,
    wanted: Order,
    params: Sequence[Var],
    named: str,
    target: Target,
    plans: dict[PlanKey, str],
) -> Var:
    """Emit a stage's operators on the rows of an order."""
    given = {source.place: param for source, param in zip(stage.sources, params, strict=True)}
    made: dict[Var, Var] = {}
    for number, (var, call) in enumerate(stage.bindings):
        if number == 0:
            value = _HEADS.get(op_name(call), _same)(call, given, wanted)
        else:
            arguments = [
                given.get((number, place), made.get(argument, argument)) for place, argument in enumerate(call.args)
            ]
            value = relax.Call(call.op, arguments, call.attrs, call.ty_args)
        value = builder.normalize(value)
        if named and op_name(value) == "nn.conv2d":
            _plan(value, named, target, plans)
        made[var] = builder.emit(value)
    return made[stage.output]


def _plan(call: Call, named: str, target: Target, plans: dict[PlanKey, str]) -> None:
    """Have a convolution computed as the whole layer is; by its definition the sums are the same for any tile."""
    geometry = geometry_of(call)
    if geometry is not None:
        dtype = dtype_of(call)
        is_known = named in plan_choices(geometry, target, dtype)
        plans[plan_key(geometry, dtype)] = named if is_known else name_of(plan_conv2d(geometry, target, dtype))


def _same(call: Call, given: dict[tuple[int, int], Var], _wanted: Order) -> Expr:
    arguments = [given.get((0, place), argument) for place, argument in enumerate(call.args)]
    return relax.Call(call.op, arguments, call.attrs, call.ty_args)


def _conv2d(call: Call, given: dict[tuple[int, int], Var], wanted: Order) -> Expr:
    attrs = call.attrs
    _, left, _, right = padding_of(attrs)
    _, top, bottom = wanted.reads[0]
    return relax.op.nn.conv2d(
        given[(0, 0)],
        call.args[1],
        strides=_ints(attrs.strides),
        padding=[top, left, bottom, right],
        dilation=_ints(attrs.dilation),
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout=str(attrs.kernel_layout),
        out_dtype=attrs.out_dtype,
    )


def _pool(call: Call, given: dict[tuple[int, int], Var], wanted: Order) -> Expr:
    attrs = call.attrs
    _, left, _, right = padding_of(attrs)
    _, top, bottom = wanted.reads[0]
    stride, dilation, size = (_ints(values) for values in (attrs.strides, attrs.dilation, attrs.pool_size))
    # With the columns that rounding up adds, so that nothing has to be rounded.
    reach = (shape_of(call)[2] - 1) * stride[1] + dilation[1] * (size[1] - 1) + 1
    right = max(right, reach - left - shape_of(call.args[0])[2])
    operator = relax.op.nn.max_pool2d if op_name(call) == "nn.max_pool2d" else relax.op.nn.avg_pool2d
    return operator(
        given[(0, 0)],
        pool_size=size,
        strides=stride,
        padding=[top, left, bottom, right],
        dilation=dilation,
        ceil_mode=False,
        count_include_pad=bool(attrs.count_include_pad),
        layout="NHWC",
    )


def _concat(call: Call, given: dict[tuple[int, int], Var], _wanted: Order) -> Expr:
    fields = [given[(0, place)] for place in range(len(call.args[0].fields))]
    return relax.op.concat(relax.Tuple(fields), axis=int(call.attrs.axis or 0))


def _resize(call: Call, given: dict[tuple[int, int], Var], wanted: Order) -> Expr:
    attrs = call.attrs
    return relax.op.image.resize2d(
        given[(0, 0)],
        (wanted.rows, shape_of(call)[2]),
        roi=tuple(float(value) for value in attrs.roi),
        layout="NHWC",
        method=str(attrs.method),
        coordinate_transformation_mode=str(attrs.coordinate_transformation_mode),
        rounding_method=str(attrs.rounding_method),
        out_dtype=attrs.out_dtype,
    )


_HEADS: dict[str, Callable[[Call, dict[tuple[int, int], Var], Order], Expr]] = {
    "nn.conv2d": _conv2d,
    "nn.max_pool2d": _pool,
    "nn.avg_pool2d": _pool,
    "concat": _concat,
    "image.resize2d": _resize,
}


def _ints(values: Any) -> list[int]:
    return [int(value) for value in values]


def _read(mod: IRModule, reports: Sequence[KernelReport], meaning: dict[Var, tuple[int, int]]) -> list[Made | None]:
    """Return for each result of a scheduled ``main`` the kernel that makes it of parameters and constants."""
    function = mod[MAIN]
    # Legalization makes the function anew; its parameters stay in order.
    params = dict(zip(function.params, meaning.values(), strict=True))
    values = dict(flat_bindings(function))
    described = {report.name: report for report in reports}
    result = function.body.body
    fields = (values[result] if isinstance(result, relax.Var) else result).fields
    serials: dict[str, Any] = {}
    found: list[Made | None] = []
    for number, output in enumerate(fields):
        call = values[output]
        arguments = _arguments(call, params, number)
        if arguments is None or described[call.args[0].name_hint].kind == NAIVE:
            found.append(None)
            continue
        name = call.args[0].name_hint
        if name not in serials:
            serials[name] = serial(mod[call.args[0]])
        found.append(Made(serials[name], arguments, described[name]))
    return found


def _arguments(call: Expr, params: dict[Var, tuple[int, int]], number: int) -> tuple[Any, ...] | None:
    if op_name(call) != "call_tir" or len(call.args) != 2 or not isinstance(call.ty, relax.TensorType):
        return None
    found: list[Any] = []
    for argument in call.args[1].fields:
        if isinstance(argument, tvm.ir.GenericConst):
            found.append(argument)
        elif argument in params and params[argument][0] == number:
            found.append(params[argument][1])
        else:
            return None
    return tuple(found)

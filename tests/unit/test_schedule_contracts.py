"""What computes note on their blocks, as it has always been: tuning records are found by it."""

import ast
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import s_tir, te

from tvmbuild.schedules import contracts
from tvmbuild.schedules.contracts import (
    GemmContract,
    GuardMark,
    Int8GemmContract,
    Mark,
    Notes,
    PeelMark,
    Summary,
    VectorMark,
    WinogradContract,
)
from tvmbuild.schedules.gemm import compute as gemm_compute
from tvmbuild.schedules.gemm.register_tile import RegisterTile
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8 import compute as int8_compute
from tvmbuild.schedules.int8 import depthwise as int8_depthwise
from tvmbuild.schedules.int8.compute import Int8Plan
from tvmbuild.schedules.kernel import analyze
from tvmbuild.schedules.loops import depthwise
from tvmbuild.schedules.strassen import compute as strassen_compute
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd import compute as winograd_compute
from tvmbuild.schedules.winograd.compute import WinogradPlan

CONV = Conv2dGeometry(1, 14, 14, 16, 24, (3, 3), padding=(1, 1, 1, 1))
DEPTHWISE = Conv2dGeometry(1, 14, 14, 16, 16, (3, 3), (2, 2), (1, 1), (0, 1, 0, 1), groups=16)
GROUPED = Conv2dGeometry(1, 8, 8, 16, 24, (3, 3), groups=2)
POINTWISE = Conv2dGeometry(1, 14, 14, 16, 32, (1, 1))
TILE = gemm_compute.TilePlan(RegisterTile(7, 8), 14, 4, True, 16)
SMULL = Int8Plan("smull", 4, 4, 16, 1, 4, 1, False, "int8")
SDOT = Int8Plan("sdot", 6, 8, 4, 36, 1, 4, True, "int8")


def made(compute, *shapes, dtype="float32"):
    inputs = [te.placeholder(shape, dtype, name=f"x{index}") for index, shape in enumerate(shapes)]
    return te.create_prim_func([*inputs, compute(*inputs)])


def conv(plan, geometry=CONV):
    return made(
        lambda x, w: gemm_compute.conv2d(x, w, geometry, plan),
        (1, geometry.height, geometry.width, geometry.in_channels),
        (geometry.groups * -(-geometry.group_out // 8), 3, 3, geometry.group_in, 8),
    )


def int8(plan, geometry, *packed):
    shape = (1, geometry.height, geometry.width, geometry.in_channels)
    return made(lambda x, w: int8_compute.conv2d(x, w, geometry, plan, 3), shape, packed, dtype="int8")


def winograd():
    plan = WinogradPlan(RegisterTile(4, 8), 16, 2, 3, 4)
    return made(lambda x, w: winograd_compute.conv2d(x, w, CONV, plan), (1, 14, 14, 16), (36, 3, 16, 8))


def strassen():
    plan = StrassenPlan(RegisterTile(7, 8), 98, 7, 1, 4)
    return made(lambda x, w: strassen_compute.conv2d(x, w, POINTWISE, plan), (1, 14, 14, 16), (7, 2, 8, 8))


def matmul():
    return made(lambda x, w: gemm_compute.matmul(x, w, 24, TILE, "matmul 14x16 by 16x24"), (14, 16), (3, 16, 8))


def int8_matmul():
    return made(lambda x, w: int8_compute.matmul(x, w, 24, SMULL), (14, 16), (6, 1, 4, 16), dtype="int8")


def of_depthwise():
    return made(lambda x, w: depthwise.compute(x, w, DEPTHWISE), (1, 14, 14, 16), (3, 3, 16))


def int8_of_depthwise():
    return made(
        lambda x, w: int8_depthwise.compute(x, w, DEPTHWISE, 3, True), (1, 14, 14, 16), (3, 3, 1, 16), dtype="int8"
    )


KERNELS = {
    "conv": lambda: conv(TILE),
    "grouped": lambda: conv(gemm_compute.TilePlan(RegisterTile(6, 8), 6, 1, False, 16), GROUPED),
    "matmul": matmul,
    "winograd": winograd,
    "strassen": strassen,
    "depthwise": of_depthwise,
    "int8 conv": lambda: int8(SMULL, CONV, 6, 3, 3, 1, 4, 16),
    "int8 im2col": lambda: int8(SDOT, CONV, 3, 1, 1, 36, 8, 4),
    "int8 grouped": lambda: int8(Int8Plan("sdot", 6, 8, 4, 2, 1, 2, False, "int8"), GROUPED, 4, 3, 3, 2, 8, 4),
    "int8 matmul": int8_matmul,
    "int8 depthwise": int8_of_depthwise,
}


#: Written down before the notes became dataclasses.
NOTED: dict[str, list[dict[str, object]]] = {
    "conv": [
        {
            "by_vector": 1,
            "geometry": [1, 14, 14, 16, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            "kind": "conv2d.direct",
            "lane_step": 4,
            "macs": 677376,
            "tile": [7, 8],
            "workload": "conv2d 1x14x14x16 to 24, 3x3 padding 1",
        },
    ],
    "grouped": [
        {
            "by_vector": 0,
            "geometry": [1, 8, 8, 16, 24, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0, 2],
            "kind": "conv2d.direct",
            "lane_step": 1,
            "macs": 62208,
            "tile": [6, 8],
            "workload": "conv2d 1x8x8x16 to 24, 3x3 groups 2",
        },
    ],
    "matmul": [
        {
            "by_vector": 1,
            "kind": "matmul",
            "lane_step": 4,
            "macs": 5376,
            "tile": [7, 8],
            "workload": "matmul 14x16 by 16x24",
        },
    ],
    "winograd": [
        {
            "channels": 24,
            "chunk": 2,
            "geometry": [1, 14, 14, 16, 24, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            "group": 3,
            "kind": "conv2d.winograd",
            "m": 4,
            "macs": 677376,
            "rows": [4, 4],
            "tile": [4, 8],
            "workload": "conv2d 1x14x14x16 to 24, 3x3 padding 1",
        },
    ],
    "strassen": [
        {
            "channels": 16,
            "chunk": 7,
            "geometry": [1, 14, 14, 16, 32, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1],
            "group": 1,
            "kind": "conv2d.strassen",
            "lanes": 4,
            "macs": 100352,
            "rows": [14, 7],
            "tile": [7, 8],
            "workload": "conv2d 1x14x14x16 to 32, 1x1",
        },
    ],
    "depthwise": [
        {
            "geometry": [1, 14, 14, 16, 16, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1, 16],
            "kind": "depthwise",
            "macs": 6048,
            "workload": "depthwise conv2d 1x14x14x16 to 16, 3x3 stride 2 padding 0x1x0x1 groups 16",
        },
    ],
    "int8 conv": [
        {
            "form": "smull",
            "kind": "conv2d.int8",
            "macs": 677376,
            "partial": 4,
            "tile": [4, 4],
            "vectors": 1,
            "workload": "conv2d 1x14x14x16 to 24, 3x3 padding 1 int8",
        },
        {
            "macs": 0,
        },
    ],
    "int8 im2col": [
        {
            "form": "sdot",
            "kind": "conv2d.int8",
            "macs": 677376,
            "partial": 1,
            "tile": [6, 8],
            "vectors": 4,
            "window": [3, 48],
            "workload": "conv2d 1x14x14x16 to 24, 3x3 padding 1 int8",
        },
    ],
    "int8 grouped": [
        {
            "form": "sdot",
            "groups": [2, 12],
            "kind": "conv2d.int8",
            "macs": 62208,
            "partial": 1,
            "tile": [6, 8],
            "vectors": 2,
            "workload": "conv2d 1x8x8x16 to 24, 3x3 groups 2 int8",
        },
    ],
    "int8 matmul": [
        {
            "form": "smull",
            "kind": "matmul.int8",
            "macs": 5376,
            "partial": 4,
            "tile": [4, 4],
            "vectors": 1,
            "workload": "matmul 14x16 by 16x24 int8",
        },
        {
            "macs": 0,
        },
    ],
    "int8 depthwise": [
        {
            "geometry": [1, 14, 14, 16, 16, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1, 16],
            "kind": "depthwise.int8",
            "macs": 6048,
            "pairs": 1,
            "workload": "depthwise conv2d 1x14x14x16 to 16, 3x3 stride 2 padding 0x1x0x1 groups 16 int8",
        },
    ],
}


@pytest.mark.parametrize("name", KERNELS)
def test_blocks_carry_the_notes_that_records_know_them_by(name):
    printed = [line.strip() for line in KERNELS[name]().script().splitlines() if "sblock_attr(" in line]
    found = [ast.literal_eval(line.removeprefix("T.sblock_attr(").removesuffix(")")) for line in printed]
    assert found == [{f"tvmbuild.{key}": value for key, value in notes.items()} for notes in NOTED[name]]


def test_a_schedule_reads_what_the_compute_wrote():
    kernel = analyze("k", winograd())
    assert kernel is not None
    assert kernel.main is not None
    contract = kernel.main.contract(WinogradContract)
    assert (contract.tile, contract.rows, contract.m, contract.geometry) == ((4, 8), (4, 4), 4, CONV)
    assert kernel.main.summary == Summary("conv2d.winograd", CONV.macs, CONV.workload, CONV)
    product = analyze("k", matmul())
    assert product is not None
    assert product.main is not None
    assert product.main.contract(GemmContract).by_vector is True
    assert product.main.contract(GemmContract).geometry is None
    assert analyze("k", int8_matmul()).macs == 14 * 16 * 24


def test_a_contract_of_another_kind_is_a_mistake_of_ours():
    kernel = analyze("k", of_depthwise())
    assert kernel is not None
    assert kernel.main is not None
    with pytest.raises(TypeError, match="tile"):
        kernel.main.contract(Int8GemmContract)


NUMBERS = st.integers(0, 999)
VALUES = {
    "int": NUMBERS,
    "bool": st.booleans(),
    "str": st.text("ab ,x", min_size=1),
    "int | None": st.none() | NUMBERS,
    "tuple[int, int]": st.tuples(NUMBERS, NUMBERS),
    "tuple[int, int] | None": st.none() | st.tuples(NUMBERS, NUMBERS),
    "tuple[int, ...]": st.lists(NUMBERS, min_size=1).map(tuple),
    "Conv2dGeometry": st.sampled_from([CONV, DEPTHWISE, GROUPED]),
    "Conv2dGeometry | None": st.sampled_from([None, CONV, GROUPED]),
}
KINDS = [
    kind
    for kind in vars(contracts).values()
    if isinstance(kind, type) and issubclass(kind, Notes) and kind not in (Notes, Mark)
]


@given(st.data(), st.sampled_from(KINDS))
def test_notes_come_back_as_they_were_written(data, kind):
    made = kind(**{each.name: data.draw(VALUES[str(each.type)]) for each in fields(kind)})
    notes = made.to_notes()
    assert kind.from_notes({"another": 1, **notes}) == made
    assert all(isinstance(value, int | str | list) and not isinstance(value, bool) for value in notes.values())


def test_a_mark_is_found_and_taken_off_on_a_loop_and_on_a_block():
    schedule = s_tir.Schedule(of_depthwise())
    block = schedule.get_sblock("depthwise")
    loop = schedule.get_loops(block)[0]
    VectorMark(8, (3, 5)).put(schedule, loop)
    GuardMark().put(schedule, block)
    assert VectorMark.find(schedule.get(loop)) == VectorMark(8, (3, 5))
    assert PeelMark.find(schedule.get(loop)) is None
    assert VectorMark.others(schedule.get(loop)) == {}
    assert GuardMark.find(schedule.get(block)) == GuardMark()
    assert set(GuardMark.others(schedule.get(block))) == {f"tvmbuild.{key}" for key in NOTED["depthwise"][0]}


def test_marks_without_numbers_write_none():
    assert VectorMark(4).to_notes() == {"tvmbuild.lanes": 4}
    assert PeelMark((2, 1)).to_notes() == {"tvmbuild.peel": "2,1"}

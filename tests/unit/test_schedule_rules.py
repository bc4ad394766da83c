import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax, s_tir

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize.conv2d_transpose import phases
from tvmbuild.schedules.loops import depthwise
from tvmbuild.schedules.threads import GRAIN, thread_count
from tvmbuild.schedules.tir.access import analyze_access
from tvmbuild.schedules.tir.vector_loops import pieces
from tvmbuild.target.target import load_target

LANES = st.sampled_from([1, 2, 4, 8, 16])


@given(extent=st.integers(1, 200), lanes=LANES, borders=st.lists(st.integers(-5, 205), max_size=4))
def test_pieces_cover_each_iteration_once(extent, lanes, borders):
    covered = []
    for start, count, width in pieces(extent, lanes, borders):
        assert width <= lanes
        for vector in range(count):
            first = start + vector * width
            assert not any(first < border < first + width for border in borders)
            covered.extend(range(first, first + width))
    assert covered == list(range(extent))


def test_pieces_end_in_narrower_vectors():
    assert list(pieces(33, 16)) == [(0, 2, 16), (32, 1, 1)]
    assert list(pieces(47, 16, [33])) == [(0, 2, 16), (32, 1, 1), (33, 1, 8), (41, 1, 4), (45, 1, 2)]


@given(
    extent=st.integers(1, 9),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    extra=st.integers(0, 2),
)
def test_phases_compute_what_scattering_does(extent, kernel, stride, padding, extra):
    outputs = (extent - 1) * stride + kernel - 2 * padding + min(extra, stride - 1)
    if outputs < 1:
        return
    scattered = [set() for _ in range(outputs)]
    for index in range(extent):
        for tap in range(kernel):
            output = index * stride + tap - padding
            if 0 <= output < outputs:
                scattered[output].add((index, tap))
    axis = phases(extent, kernel, stride, padding, outputs)
    for output in range(outputs):
        phase = axis[(output + padding) % stride]
        position = (output + padding) // stride - phase.first
        gathered = set()
        for step in range(phase.taps):
            index = position + step - phase.before
            if 0 <= index < extent:
                gathered.add((index, phase.remainder + stride * (phase.taps - 1 - step)))
        assert 0 <= position < phase.count
        assert gathered == scattered[output]


def test_small_work_stays_on_one_core():
    board = load_target("rpi4")
    assert thread_count(GRAIN * 1.9, board) == 1
    assert thread_count(GRAIN * 2, board) == 2
    assert thread_count(GRAIN * 100, board) == board.cores


@pytest.mark.parametrize(
    ("width", "kernel", "padding", "columns", "expected"),
    [
        (14, 3, 1, 7, (1, 1)),  # two tiles, each at an edge
        (56, 3, 1, 8, (1, 1)),
        (56, 5, 2, 8, (1, 1)),
        (20, 3, 1, 8, (1, 1)),  # the last tile is half empty
        (16, 1, 0, 8, (0, 0)),  # nothing is padded
    ],
)
def test_edge_tiles_are_those_that_touch_padding(width, kernel, padding, columns, expected):
    geometry = Conv2dGeometry(1, 4, width, 8, 8, (kernel, kernel), padding=(padding,) * 4, groups=8)
    assert depthwise.edge_tiles(geometry, columns) == expected


def test_channel_vectors_divide_the_channels_where_they_can():
    board = load_target("rpi4")
    assert depthwise.channel_lanes(64, board) == 4
    assert depthwise.channel_lanes(33, board) == 4


def test_a_concatenation_changes_its_source_at_its_borders():
    builder = relax.BlockBuilder()
    parts = [relax.Var(f"x{width}", relax.TensorType((3, width), "float32")) for width in (5, 8)]
    with builder.function("main", parts):
        builder.emit_func_output(builder.emit(relax.op.concat(parts, 1)))
    legal = relax.transform.LegalizeOps()(builder.get())
    (func,) = (func for var, func in legal.functions_items() if var.name_hint != "main")
    schedule = s_tir.Schedule(func)
    access = analyze_access(schedule.get(schedule.get_sblock("T_concat")))
    assert access.conditional == (False, True)
    assert access.borders == (5,)

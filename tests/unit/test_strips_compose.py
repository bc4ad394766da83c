"""How the composer of chains sorts what strips do."""

from hypothesis import given
from hypothesis import strategies as st

from tvmbuild.schedules.strips.chain import Chain, Keep, Operand, Role, Step, Strip, Tensor
from tvmbuild.schedules.strips.compose import slots, workspace_bytes
from tvmbuild.schedules.strips.position import line_of_most, row_at, runs

X, SCRATCH, Y = range(3)
#: Kernels: the pointwise one of the top, of a core's first strip and of others; the window's at the top and of others.
TOP, FIRST, NEXT, WINDOW_TOP, WINDOW = range(5)


def chain(cores: int, turns: int, scratch: str = "float32") -> Chain:
    """A pointwise kernel and one with a window of three rows, in strips of two rows, rolling."""

    def strip(core: int, turn: int) -> Strip:
        row = (core * turns + turn) * 2
        top = row == 0
        keeps = (Keep(SCRATCH, 2, 2),) if turn else ()
        start = 2 if turn else int(top)
        one = Step(NEXT if turn else TOP if top else FIRST, (Operand(X, row - 1 + start), Operand(SCRATCH, start)))
        two = Step(WINDOW_TOP if top else WINDOW, (Operand(SCRATCH, int(top)), Operand(Y, row)))
        return Strip(keeps, (one, two))

    tensors = (
        Tensor(Role.INPUT, (1, cores * turns * 2, 9, 5), "float32"),
        Tensor(Role.SCRATCH, (1, 4, 9, 3), scratch),
        Tensor(Role.OUTPUT, (1, cores * turns * 2, 9, 7), "float32"),
    )
    return Chain(
        "chain", tensors, (), tuple(tuple(strip(core, turn) for turn in range(turns)) for core in range(cores))
    )


def test_a_kernel_stands_once_whatever_strips_run_it() -> None:
    keeps, steps = slots(chain(4, 3), 3)
    assert keeps[SCRATCH].keeps == {Keep(SCRATCH, 2, 2): [1, 2, 4, 5, 7, 8, 10, 11]}
    pointwise, window = ({kernel: sorted(calls) for kernel, calls in slot.steps.items()} for slot in steps)
    assert pointwise == {TOP: [0], FIRST: [3, 6, 9], NEXT: [1, 2, 4, 5, 7, 8, 10, 11]}
    assert window == {WINDOW_TOP: [0], WINDOW: list(range(1, 12))}


def test_kernels_run_in_order_where_a_strip_leaves_one_out() -> None:
    whole = chain(1, 3)
    first, second, third = whole.cores[0]
    shorter = Chain("chain", whole.tensors, (), ((Strip((), first.steps[1:]), second, third),))
    _, steps = slots(shorter, 3)
    assert [sorted(slot.steps) for slot in steps] == [[NEXT], [WINDOW_TOP, WINDOW]]


def test_each_core_has_lines_of_the_cache_of_its_own() -> None:
    # 4 rows of 9 x 3 elements are 432 bytes, or 216 in float16: each on lines of 64.
    assert workspace_bytes(chain(4, 3)) == 4 * 448
    assert workspace_bytes(chain(2, 3, "float16")) == 2 * 256


def test_runs_of_neighbours() -> None:
    assert runs([7, 1, 2, 3, 5]) == [(1, 3), (5, 5), (7, 7)]


def test_most_rows_lie_on_one_line() -> None:
    assert line_of_most({0: 0, 1: 3, 2: 7, 3: 11, 4: 15}) == (-1, 4)
    assert line_of_most({4: 9}) == (9, 0)


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 500), min_size=1, max_size=8))
def test_the_expression_of_rows_has_the_row_of_each_position(rows: dict[int, int]) -> None:
    import tvm
    from tvm import tirx

    from tvmbuild.schedules.tir.rewrite import substitute

    position = tirx.Var("position", "int32")
    expression = row_at(position, rows)
    for at, row in rows.items():
        value = tvm.sym.Analyzer().simplify(substitute(expression, position, tirx.const(at, "int32")))
        assert int(value.value) == row

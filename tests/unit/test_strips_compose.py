"""How the composer of chains sorts strips."""

from tvmbuild.schedules.strips.chain import Chain, Keep, Operand, Role, Step, Strip, Tensor
from tvmbuild.schedules.strips.compose import strip_kinds, workspace_bytes

X, SCRATCH, Y = range(3)


def chain(cores: int, turns: int, scratch: str = "float32") -> Chain:
    """A pointwise and a 3x3 kernel; rows of the image lie in the scratch two rows later than those that are kept."""

    def strip(core: int, turn: int) -> Strip:
        row = (core * turns + turn) * 2
        first, last = row == 0, row == (cores * turns - 1) * 2
        keeps = (Keep(SCRATCH, 2, 2),) if turn else ()
        start = 2 if turn else int(first)
        one = Step((2 if turn else 0) + first + 4 * last, (Operand(X, row - 1 + start), Operand(SCRATCH, start)))
        two = Step(6 + first + 2 * last, (Operand(SCRATCH, int(first)), Operand(Y, row)))
        return Strip(keeps, (one, two))

    tensors = (
        Tensor(Role.INPUT, (1, cores * turns * 2, 9, 5), "float32"),
        Tensor(Role.SCRATCH, (1, 4, 9, 3), scratch),
        Tensor(Role.OUTPUT, (1, cores * turns * 2, 9, 7), "float32"),
    )
    return Chain(
        "chain", tensors, (), tuple(tuple(strip(core, turn) for turn in range(turns)) for core in range(cores))
    )


def test_strips_that_differ_by_their_rows_alone_share_code() -> None:
    # The top of the image, its bottom, the first of each other core, and the middle, which is the most frequent.
    assert [len(kind.strips) for kind in strip_kinds(chain(4, 3), 3)] == [1, 1, 3, 7]


def test_rows_that_are_on_no_line_get_code_of_their_own() -> None:
    whole = chain(1, 6)
    (strips,) = whole.cores
    moved = list(strips)
    step = moved[3].steps[1]
    moved[3] = Strip(moved[3].keeps, (moved[3].steps[0], Step(step.kernel, (step.operands[0], Operand(Y, 11)))))
    kinds = strip_kinds(Chain("chain", whole.tensors, (), (tuple(moved),)), 6)
    assert sorted(at for kind in kinds for at, _ in kind.strips) == list(range(6))
    assert all(len({at for at, _ in kind.strips} & {2, 3, 4}) < 3 for kind in kinds)


def test_each_core_has_lines_of_the_cache_of_its_own() -> None:
    # 4 rows of 9 x 3 elements are 432 bytes, or 216 in float16: each on lines of 64.
    assert workspace_bytes(chain(4, 3)) == 4 * 448
    assert workspace_bytes(chain(2, 3, "float16")) == 2 * 256

"""Joining QEMU's blocks, pricing them and finding hot loops, on hand-written blocks."""

import pytest

from tvmbuild.predict.costs import Counts
from tvmbuild.predict.kernels import Board, Sharing, hot_loop, predict_kernels
from tvmbuild.predict.llvm import BlockCost
from tvmbuild.predict.pricing import PricedBlock, price_block
from tvmbuild.predict.profile import Block
from tvmbuild.predict.superblocks import Superblock, join
from tvmbuild.target.target import load_target, predicted_core

A72 = predicted_core(load_target("rpi4"))
A53 = predicted_core(load_target("rpi3"))


class Code:
    """Blocks written as assembly text; each text gets a word of its own."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._words: dict[str, str] = {}

    def block(self, address: int, count: int, *body: str, misses: tuple[int, ...] = ()) -> Block:
        for text in body:
            self._words.setdefault(text, f"{len(self._words):08x}")
            self.texts[self._words[text]] = text
        words = tuple(self._words[text] for text in body)
        return Block(address, count, "/lib.so", address, words, *misses)


def addresses(blocks: list[Superblock]) -> list[tuple[list[int], int]]:
    return sorted(([part.address for part in block.parts], block.count) for block in blocks)


def test_joins_what_falls_through_equally_often() -> None:
    code = Code()
    blocks = [code.block(0, 100, "nop", "cbz x0, #64"), code.block(8, 99, "nop"), code.block(12, 10, "ret")]
    assert addresses(join(blocks, code.texts)) == [([0, 8], 100), ([12], 10)]


def test_follows_a_jump_and_stops_at_a_call() -> None:
    code = Code()
    blocks = [code.block(0, 5, "b #32"), code.block(32, 5, "bl #256"), code.block(36, 5, "ret")]
    assert addresses(join(blocks, code.texts)) == [([0, 32], 5), ([36], 5)]


def test_what_enters_from_elsewhere_stays_a_block_of_its_own() -> None:
    code = Code()
    blocks = [code.block(0, 10, "nop"), code.block(4, 15, "nop", "ret")]
    assert addresses(join(blocks, code.texts)) == [([0, 4], 10), ([4], 5)]


def test_a_loop_of_two_blocks_starts_at_its_lowest_address() -> None:
    code = Code()
    blocks = [code.block(4, 10, "nop", "b.ne #-8"), code.block(0, 10, "nop")]
    (loop,) = join(blocks, code.texts)
    assert [part.address for part in loop.parts] == [0, 4]
    assert loop.is_loop


def test_joining_keeps_every_execution() -> None:
    code = Code()
    blocks = [
        code.block(0, 10, "nop", "nop", misses=(3, 1, 1, 2)),
        code.block(8, 15, "nop", misses=(2, 0, 0, 4)),
        code.block(12, 10, "b #-12"),
    ]
    joined = join(blocks, code.texts)
    assert sum(block.executed for block in joined) == sum(block.executed for block in blocks)
    assert sum(block.l1_misses for block in joined) == 5
    assert sum(block.l2_misses for block in joined) == 1
    assert sum(block.memory_reads for block in joined) == 1
    assert sum(block.memory_writes for block in joined) == 6


def loop_of(code: Code, *body: str, count: int = 1000) -> Superblock:
    return Superblock((code.block(0, count, *body),), count, True)


COST = BlockCost(cycles=20, throughput=8, micro_ops=12, width=3)


def test_a_long_loop_costs_what_llvm_mca_says() -> None:
    block = loop_of(Code(), "nop", "b.ne #-4")
    priced = price_block(block, ("nop", "b.ne #-4"), COST, A72, {8: 1})
    assert priced.trips == 1000
    assert priced.cycles == COST.cycles


def test_a_short_loop_overlaps_with_what_follows_but_needs_its_pipes() -> None:
    block = loop_of(Code(), "nop", "b.ne #-4")
    # 8 iterations of 12 micro-operations fill 3/4 of the window of 128; 1 iteration fills less than the pipes need.
    assert price_block(block, (), COST, A72, {8: 125}).cycles == 15
    assert price_block(block, (), COST, A72, {8: 1000}).cycles == 8


def test_nothing_overlaps_on_a_core_that_issues_in_order() -> None:
    assert price_block(loop_of(Code(), "nop", "b.ne #-4"), (), COST, A53, {8: 1000}).cycles == COST.cycles


def test_a_core_that_issues_in_order_multiplies_no_faster_than_it_can() -> None:
    body = tuple(f"fmla v{n}.4s, v30.4s, v31.4s" for n in range(8))
    block = Superblock((Code().block(0, 10, *body),), 10, False)
    assert price_block(block, body, BlockCost(4, 4, 8, 2), A53, {}).cycles == 8
    assert price_block(block, body, BlockCost(10, 4, 8, 2), A53, {}).cycles == 10


def test_a_spilled_accumulator_costs_its_way_through_memory() -> None:
    body = ("ldr q0, [sp]", "fmla v0.4s, v1.4s, v2.4s", "str q0, [sp]", "b.ne #-12")
    priced = price_block(loop_of(Code(), *body), body, BlockCost(2, 2, 4, 3), A72, {16: 1})
    assert priced.spills == 1
    assert priced.cycles == A72.forwarding


def test_a_block_counts_what_it_did_in_all_executions() -> None:
    body = ("sadalp v0.4s, v1.8h", "fdiv v0.4s, v1.4s, v2.4s", "uadalp v0.8h, v1.16b")
    block = Superblock((Code().block(0, 10, *body, misses=(30, 10, 5, 3)),), 10, False)
    counts = price_block(block, body, BlockCost(3, 1, 1, 3), A53, {}).counts
    assert counts == Counts(30, 20, 10, 30, 10, 5, 3)


def priced(block: Block, code: Code, cycles: float, is_loop: bool = False) -> PricedBlock:
    body = tuple(code.texts[word] for word in block.words)
    counts = Counts(compute_cycles=block.count * cycles)
    return PricedBlock(Superblock((block,), block.count, is_loop), body, cycles, counts, 1.0, 0)


def test_the_hot_loop_is_the_innermost_one() -> None:
    code = Code()
    fmla = "fmla v0.4s, v1.4s, v2.4s"
    outer = code.block(0, 10, "nop")
    inner = code.block(4, 1000, *[fmla] * 8, "b.ne #-32")
    last = code.block(40, 10, "b.ne #-40")
    loop = hot_loop([priced(outer, code, 1), priced(inner, code, 10, True), priced(last, code, 1)], A72)
    assert loop is not None
    assert (loop.instructions, loop.cycles, loop.multiply_adds) == (9, 10, 8)
    assert loop.bound_share == pytest.approx(0.8)
    assert loop.kernel_share == pytest.approx(10000 / 10020)


def test_a_branch_inside_a_loop_belongs_to_it() -> None:
    code = Code()
    head = code.block(0, 100, "nop", "cbz x0, #8")
    sometimes = code.block(8, 50, "fmla v0.4s, v1.4s, v2.4s")
    back = code.block(12, 100, "b.ne #-12")
    loop = hot_loop([priced(head, code, 2), priced(sometimes, code, 4), priced(back, code, 1)], A72)
    assert loop is not None
    assert (loop.instructions, loop.cycles, loop.multiply_adds) == (3.5, 5, 0.5)


def test_straight_code_has_no_loop() -> None:
    code = Code()
    assert hot_loop([priced(code.block(0, 1, "nop", "ret"), code, 2)], A72) is None


def test_kernels_are_added_up_and_sorted_by_cost() -> None:
    code = Code()
    blocks = [priced(code.block(at, count, "nop"), code, 1) for at, count in ((0, 10), (64, 60), (128, 30))]
    kernels = predict_kernels(blocks, Board(A72), lambda block: "b" if block.block.parts[0].address == 64 else "a")
    assert [(kernel.name, kernel.instructions) for kernel in kernels] == [("b", 60), ("a", 40)]
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1)


def test_a_kernel_is_shared_out_and_the_others_are_not() -> None:
    code = Code()
    blocks = [priced(code.block(at, 100, "nop"), code, 1) for at in (0, 64)]
    sharing = {"a": Sharing(4, 2.0, 3), "b": Sharing(4)}
    of_address = {0: "a", 64: "b"}
    kernels = predict_kernels(
        blocks, Board(A72, 1800), lambda block: of_address[block.block.parts[0].address], sharing.__getitem__
    )
    cycles = {kernel.name: kernel.estimated_cycles for kernel in kernels}
    assert cycles == {"a": pytest.approx(50 + 3 * A72.costs.launch_us * 1800), "b": pytest.approx(100)}

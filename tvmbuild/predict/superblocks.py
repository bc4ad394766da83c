"""Joins QEMU's blocks into superblocks, and finds the loops among them.

QEMU ends a block at every branch, page end and 512th instruction. Priced one by one, blocks that always follow each
other would each pay for filling and draining the pipes, so a block is joined with the one that it falls through to, or
jumps to, when both ran about equally often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tvmbuild.predict.instructions import branch_displacement, is_jump, leaves
from tvmbuild.predict.profile import INSTRUCTION_BYTES, Block

#: Relative difference of two counts that still is "equally often".
_TOLERANCE = 0.02
#: Instructions at which a superblock stops to grow: pricing longer ones takes long and tells nothing more.
_LONGEST = 6000


@dataclass(frozen=True)
class Superblock:
    """Blocks that run one after the other.

    Attributes:
        parts: the blocks, in the order in which they run.
        count: number of executions.
        is_loop: whether the last part branches back to one of the parts.
    """

    parts: tuple[Block, ...]
    count: int
    is_loop: bool

    @property
    def words(self) -> tuple[str, ...]:
        """The instructions of all parts."""
        return tuple(word for part in self.parts for word in part.words)

    @property
    def executed(self) -> int:
        """Number of instructions executed."""
        return self.count * sum(len(part.words) for part in self.parts)

    @property
    def l1_misses(self) -> int:
        """First level misses of all parts."""
        return sum(part.l1_misses for part in self.parts)

    @property
    def l2_misses(self) -> int:
        """Second level misses of all parts."""
        return sum(part.l2_misses for part in self.parts)

    @property
    def memory_reads(self) -> int:
        """Lines read from memory by all parts."""
        return sum(part.memory_reads for part in self.parts)

    @property
    def memory_writes(self) -> int:
        """Lines written back to memory by all parts."""
        return sum(part.memory_writes for part in self.parts)


def branch_target(block: Block, texts: Mapping[str, str]) -> int | None:
    """Return the address that the block's last instruction may branch to directly, or None."""
    displacement = branch_displacement(texts.get(block.words[-1], ""))
    return None if displacement is None else block.end - INSTRUCTION_BYTES + displacement


def join(blocks: Sequence[Block], texts: Mapping[str, str]) -> list[Superblock]:
    """Join blocks that follow each other and ran about equally often."""
    successors = _successors(blocks, texts)
    followed = {id(block) for block in successors.values()}
    joined: list[Superblock] = []
    done: set[int] = set()
    # Blocks that nothing precedes start a superblock each. What is left are cycles; they start at their lowest address.
    heads = [block for block in blocks if id(block) not in followed]
    for head in (*heads, *sorted(blocks, key=lambda block: block.address)):
        if id(head) not in done:
            joined += _follow(head, successors, done, texts)
    return joined


def _successors(blocks: Sequence[Block], texts: Mapping[str, str]) -> dict[int, Block]:
    """Map the id of a block to the one that it is joined with."""
    at: dict[int, Block] = {}
    for block in sorted(blocks, key=lambda block: block.count):
        at[block.address] = block  # of several translations at one address the most executed counts
    successors: dict[int, Block] = {}
    taken: set[int] = set()
    for block in sorted(blocks, key=lambda block: -block.executed):
        last = texts.get(block.words[-1], "")
        if leaves(last):
            continue
        following = branch_target(block, texts) if is_jump(last) else block.end
        candidate = at.get(following) if following is not None else None
        if candidate is None or candidate is block or id(candidate) in taken:
            continue
        # It may be entered from elsewhere too, up to as often again: the surplus stays a superblock of its own.
        if (1 - _TOLERANCE) * block.count <= candidate.count <= 2 * block.count:
            successors[id(block)] = candidate
            taken.add(id(candidate))
    return successors


def _follow(
    head: Block, successors: Mapping[int, Block], done: set[int], texts: Mapping[str, str]
) -> Iterable[Superblock]:  # fmt: skip
    parts = [head]
    done.add(id(head))
    length = len(head.words)
    surplus: list[Superblock] = []
    while length < _LONGEST:
        following = successors.get(id(parts[-1]))
        if following is None or id(following) in done:
            break
        done.add(id(following))
        parts.append(following)
        length += len(following.words)
        if following.count > (1 + _TOLERANCE) * head.count:
            # Its lines stay with the other half.
            extra = Block(
                following.address, following.count - head.count, following.module, following.offset, following.words
            )
            surplus.append(_superblock((extra,), extra.count, texts))
    return (_superblock(tuple(parts), head.count, texts), *surplus)


def _superblock(parts: tuple[Block, ...], count: int, texts: Mapping[str, str]) -> Superblock:
    target = branch_target(parts[-1], texts)
    return Superblock(parts, count, target in {part.address for part in parts})

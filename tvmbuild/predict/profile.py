"""Reads what the QEMU plugin wrote: every block of code that ran in the marked region, and how often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvmbuild.support.errors import DeviceError

#: Bytes of an AArch64 instruction.
INSTRUCTION_BYTES = 4
#: Bytes of a cache line.
LINE_BYTES = 64
_WORD_DIGITS = 2 * INSTRUCTION_BYTES
_HEADER = "P 2"


@dataclass(frozen=True)
class Block:
    """A straight run of code, as QEMU cut it: it ends at a branch, at the end of a page or after 512 instructions.

    Attributes:
        address: where it ran, in the guest's memory.
        count: number of executions.
        module: path of the file it was mapped from; "" for code of no file.
        offset: where it starts in that file, in bytes.
        words: its instructions, each as 8 hexadecimal digits, most significant first.
        l1_misses: accesses that missed the first level data cache; 0 without cache model.
        l2_misses: accesses of those that missed the second level as well.
        memory_reads: lines that the last level lacked, so that they came from memory.
        memory_writes: changed lines that the last level had to write back to memory to make room.
    """

    address: int
    count: int
    module: str
    offset: int
    words: tuple[str, ...]
    l1_misses: int = 0
    l2_misses: int = 0
    memory_reads: int = 0
    memory_writes: int = 0

    @property
    def end(self) -> int:
        """Address after the last instruction."""
        return self.address + INSTRUCTION_BYTES * len(self.words)

    @property
    def executed(self) -> int:
        """Number of instructions executed."""
        return self.count * len(self.words)


@dataclass(frozen=True)
class ParallelLoop:
    """How a parallel loop shared its work out, over all launches.

    Attributes:
        body: address of the code of its tasks, in the guest's memory.
        launches: how often it was started.
        tasks: tasks of all launches.
        instructions: executed by all tasks.
        longest: executed by the longest task of each launch, added up: what a board with a core a task waits for.
    """

    body: int
    launches: int
    tasks: int
    instructions: int
    longest: int


@dataclass(frozen=True)
class Profile:
    """One marked region.

    Attributes:
        instructions: number of instructions executed.
        accesses: memory accesses that the cache model saw; 0 without one.
        blocks: the blocks that ran at least once.
        loops: the parallel loops; empty unless the run was of several tasks.
    """

    instructions: int
    accesses: int
    blocks: tuple[Block, ...]
    loops: tuple[ParallelLoop, ...] = ()


def read_profile(path: Path) -> Profile:
    """Read the only region of a profile.

    Raises:
        DeviceError: the file is missing, not one of the plugin's, cut off, or has not exactly one region.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DeviceError(
            f"The emulated run left no profile: {error}.", "Is there space in the temporary folder?"
        ) from error
    try:
        return parse_profile(text)
    except (ValueError, IndexError, KeyError) as error:
        raise DeviceError(
            f"The profile {path} cannot be used: {error}.", "Did the run end before the model had run? See its output."
        ) from error


def parse_profile(text: str) -> Profile:
    """Parse a profile's text (the format is described in native/qemu_plugin/block_profile.c).

    Raises:
        ValueError, IndexError, KeyError: it does not have that form or has not exactly one region.
    """
    header, *lines = text.splitlines()
    if header != _HEADER:
        raise ValueError(f"it starts with {header[:20]!r} and not {_HEADER!r}")
    modules: dict[str, str] = {}
    regions: list[list[str]] = []
    blocks: list[Block] = []
    loops: list[ParallelLoop] = []
    for line in lines:
        kind, rest = line[:1], line[2:]
        if kind == "R":
            regions.append(rest.split())
        elif kind == "M":
            number, _, name = rest.partition(" ")
            modules[number] = name
        elif kind == "L":
            body, *counts = rest.split(" ")
            loops.append(ParallelLoop(int(body, 16), *_numbers(counts, 4)))
        elif kind == "B":
            blocks.append(_parse_block(rest, modules))
        else:
            raise ValueError(f"it has a line that starts with {line[:20]!r}")
    if len(regions) != 1:
        raise ValueError(f"it has {len(regions)} marked regions and not 1")
    instructions = int(regions[0][1])
    if sum(block.executed for block in blocks) != instructions:
        raise ValueError("it is cut off")
    return Profile(instructions, int(regions[0][2]), tuple(blocks), tuple(loops))


def _parse_block(text: str, modules: dict[str, str]) -> Block:
    count, address, module, offset, *lines, code = text.split(" ")
    words = tuple(code[at : at + _WORD_DIGITS] for at in range(0, len(code), _WORD_DIGITS))
    return Block(int(address, 16), int(count), modules[module], int(offset, 16), words, *_numbers(lines, 4))


def _numbers(texts: list[str], count: int) -> list[int]:
    if len(texts) != count:
        raise ValueError(f"a line has {len(texts)} counts and not {count}")
    return [int(text) for text in texts]

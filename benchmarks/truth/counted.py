"""What ncnn's nets execute and move on each board's core, and the file that keeps it: counts.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tvmbuild.predict.costs import Counts, total
from tvmbuild.predict.llvm import LlvmTools
from tvmbuild.predict.pricing import PriceCache, price_profile
from tvmbuild.predict.profile import Profile
from tvmbuild.support.border import Border, Count, Line, NotNegative
from tvmbuild.support.errors import RecordsError
from tvmbuild.target.cores import Core

PATH = Path(__file__).with_name("counts.json")
#: Threads that are counted.
THREADS = (1, 4)
_BORDER = Border("The stored counts", RecordsError, "Count again: make bench-truth.")


@dataclass(frozen=True)
class NetCounts:
    """One inference of a net.

    Attributes:
        instructions: executed, by all threads.
        counts: what a prediction is made of, of all threads.
        launches: parallel regions that were started.
        speedup: instructions, over those that are executed from start to end where each region waits for its longest
            thread.
    """

    instructions: Count
    counts: Counts
    launches: Count = 0
    speedup: NotNegative = 1.0


@dataclass(frozen=True)
class BoardCounts:
    """A board's nets.

    Attributes:
        ncnn: version that ran.
        made_with: versions of what counted.
        nets: by threads and net.
    """

    ncnn: Line
    made_with: Line
    nets: dict[str, dict[str, NetCounts]]

    def whole(self) -> list[str]:
        """Return the nets that were counted with every number of threads."""
        return sorted(set.intersection(*(set(self.nets.get(str(threads), {})) for threads in THREADS)))


def count(profile: Profile, core: Core, tools: LlvmTools, cache: PriceCache) -> NetCounts:
    """Price what was executed with the project's own pricing, and add it up.

    Raises:
        ToolchainError: LLVM's programs could not be run.
    """
    priced = price_profile(profile, core, tools, cache)
    scale = profile.instructions / max(1, sum(part.block.executed for part in priced))
    waited = sum(loop.instructions - loop.longest for loop in profile.loops)

    def lines(counted: str) -> int:
        return sum(getattr(block, counted) for block in profile.blocks)

    found = total(part.counts for part in priced)
    return NetCounts(
        instructions=profile.instructions,
        counts=replace(
            found,
            compute_cycles=round(scale * found.compute_cycles),
            l1_misses=lines("l1_misses"),
            l2_misses=lines("l2_misses"),
            memory_reads=lines("memory_reads"),
            memory_writes=lines("memory_writes"),
        ),
        launches=sum(loop.launches for loop in profile.loops),
        speedup=round(profile.instructions / max(1, profile.instructions - waited), 4),
    )


def load_counts(path: Path = PATH) -> dict[str, BoardCounts]:
    """Return what was counted, by board; nothing where the file is missing.

    Raises:
        RecordsError: the file does not have the form.
    """
    if not path.exists():
        return {}
    return _BORDER.checked(_BORDER.json(path), dict[str, BoardCounts], path)


def store(boards: dict[str, BoardCounts], path: Path = PATH) -> None:
    """Write the file, aside and then in place."""
    aside = path.with_suffix(".partial")
    content = {name: asdict(board) for name, board in boards.items()}
    for board in content.values():
        for net in (net for nets in board["nets"].values() for net in nets.values()):
            net["counts"] = {name: round(value) for name, value in net["counts"].items()}
    aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    aside.replace(path)


def added(board: BoardCounts | None, found: BoardCounts) -> BoardCounts:
    """Return a board's counts with new ones in place of older ones of the same nets.

    Counts of another ncnn are dropped.
    """
    if board is None or board.ncnn != found.ncnn:
        return found
    nets = {threads: dict(board.nets.get(threads, {})) for threads in {*board.nets, *found.nets}}
    for threads, new in found.nets.items():
        nets[threads] |= new
    return replace(found, nets=nets)

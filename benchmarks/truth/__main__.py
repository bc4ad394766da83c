"""Compare predictions with published times of real boards: ``make bench-truth``.

Counts what ncnn's nets execute in QEMU on each board's core (about half an hour for all boards), stores the counts,
and prints what the project's own prediction makes of them beside what was published. ``--stored`` prints from the
stored counts, in seconds. It needs what ``bench --predict`` needs, and fetches ncnn's wheels, its nets and an aarch64
Python.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import page
from benchmarks.truth import board as boards
from benchmarks.truth import compare, counted, report
from benchmarks.truth.published import Published, load_published
from tvmbuild.device.emulator import find_emulator
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.pricing import PriceCache
from tvmbuild.predict.profile import read_profile
from tvmbuild.support.errors import OptionError, TvmbuildError
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import load_target, predicted_core

TOP = Path(__file__).resolve().parent.parent.parent
BUILD = TOP / "build" / "truth"
PAGE = TOP / "docs" / "predict.md"
MARKERS = (
    "<!-- bench-truth: start; written by `make bench-truth`, do not edit -->",
    "<!-- bench-truth: end -->",
)


def main() -> int:
    """Count, compare, print; return the exit code of the error that ended it."""
    given = _parser().parse_args()
    try:
        published = load_published()
        _known("board", given.boards, published)
        _known("net", given.nets, boards.NETS)
        if given.plot:
            report.check_plot(given.plot)
        if not given.stored:
            for name in dict.fromkeys(published[board].counts for board in given.boards or published):
                _count_board(published[name], given)
        found = compare.compare_all(published, counted.load_counts())
        print("\n".join(report.text(found)))
        if given.page:
            page.write(PAGE, report.markdown(found), MARKERS)
        if given.plot:
            report.draw(found, given.plot)
    except TvmbuildError as error:
        print(f"bench-truth: {error.message}\n  {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stored", action="store_true", help="count nothing: use benchmarks/truth/counts.json")
    parser.add_argument("--boards", nargs="+", default=[], help="count for these boards only")
    parser.add_argument("--nets", nargs="+", default=[], help="count these nets only; the others keep their counts")
    parser.add_argument("--page", action="store_true", help="write the tables of docs/predict.md")
    parser.add_argument("--plot", type=Path, help="draw predicted over published times into this file (.svg, .png)")
    parser.add_argument("--ncnn", default=boards.REPOSITORY, help="ncnn's Git repository (%(default)s)")
    parser.add_argument("--python", type=Path, help="root of an aarch64 Python 3.11 (default: fetched from Debian 12)")
    return parser


def _known(what: str, names: list[str], known: dict[str, Published] | dict[str, int]) -> None:
    for name in names:
        if name not in known:
            raise OptionError(f"There is no {what} '{name}' to compare.", did_you_mean(name, known))


def _count_board(board: Published, given: argparse.Namespace) -> None:
    target = load_target(board.target)
    tools, core, cache = find_llvm(), predicted_core(target), PriceCache()
    made_with = f"LLVM {tools.version}, {find_emulator().version}"
    ncnn = boards.prepare(target, board.wheel, BUILD, python=given.python, repository=given.ncnn)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-truth-") as folder:
        for threads, net in _runs(board, given.nets):
            profile = Path(folder) / "profile"
            ncnn.profile(net, threads, profile)
            counts = counted.count(read_profile(profile), core, tools, cache)
            found = counted.BoardCounts(board.wheel, made_with, {str(threads): {net: counts}})
            # After each, so that Ctrl-C loses one.
            stored = counted.load_counts()
            counted.store({**stored, target.name: counted.added(stored.get(target.name), found)})
            print(f"{target.name} {net}, {threads} threads: {counts.instructions / 1e6:.1f} Minstructions", flush=True)


def _runs(board: Published, nets: list[str]) -> Iterator[tuple[int, str]]:
    for threads in counted.THREADS:
        for net in nets or boards.NETS:
            if net in board.milliseconds(threads):
                yield threads, net


if __name__ == "__main__":
    sys.exit(main())

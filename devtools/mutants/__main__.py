"""Count how many small changes to the code the unit tests notice, and write the score to docs/testing.md.

Cosmic Ray makes the changes (mutants) and keeps their outcomes in build/mutants/session.sqlite. A seeded sample is
worked off until the time is over; the next run with the same seed goes on where this one stopped, unless the code or
its tests have changed. Each mutant meets the unit tests that run its line, in one of two copies of the checkout.
"""

from __future__ import annotations

import argparse
import compileall
import difflib
import json
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

from devtools.mutants.drawing import drawn
from devtools.mutants.judges import Judges
from devtools.mutants.score import page, write

TOP = Path(__file__).resolve().parent.parent.parent
FOLDER = TOP / "build" / "mutants"
AREAS = ("quantization", "graph", "records", "artifact", "tuning")
COPIED = ("tvmbuild", "tests", "targets", "devtools", "scripts", "benchmarks", "attacks", "examples", "docs")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "requirements.lock", "CHANGELOG.md", "LICENSE", "cli.py")
#: A mutant may take so many times what the unchanged code takes, and so many seconds more.
PATIENCE, MORE_SECONDS = 4, 20.0


class Copy:
    """A copy of the checkout and the judge that works in it."""

    def __init__(self, number: int) -> None:
        """Make the copy anew: a run that was killed may have left a mutant in the last one."""
        self.tree = FOLDER / f"tree-{number}"
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)
        for name in COPIED:
            shutil.copytree(TOP / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in COPIED_FILES:
            shutil.copy2(TOP / name, self.tree / name)
        # A mutant can be as long as what it replaces and come in the same second, so times and sizes tell nothing.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(self.tree / "tvmbuild", quiet=2, invalidation_mode=mode)
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        environment = {**os.environ, "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "devtools.mutants.judge"]
        self._judge = subprocess.Popen(command, cwd=self.tree, env=environment, **pipes)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the judge's answer."""
        assert self._judge.stdin is not None
        assert self._judge.stdout is not None
        print(json.dumps(request), file=self._judge.stdin, flush=True)
        return dict(json.loads(self._judge.stdout.readline()))

    def close(self) -> None:
        """Let the judge end."""
        self._judge.communicate()


def main() -> int:
    """Work off mutants until the time is over, then write the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all of it (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="copies to work in at the same time (default: 2)")
    parser.add_argument("--area", choices=AREAS, help="only mutants of one folder; the page stays as it is")
    parser.add_argument("--no-page", action="store_true", help="leave docs/testing.md as it is")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=TOP, capture_output=True, text=True, check=False).stdout.strip()
    copies = [Copy(number) for number in range(options.workers)]
    areas = [options.area] if options.area else list(AREAS)
    judges = Judges(TOP, FOLDER / "lines", areas)
    record(copies, judges)
    modules = [path.relative_to(TOP) for area in areas for path in sorted((TOP / "tvmbuild" / area).rglob("*.py"))]
    stamp = FOLDER / "state"
    state = f"{judges.state} {options.seed} {areas}"
    with use_db(FOLDER / "session.sqlite", WorkDB.Mode.create) as session:
        if not stamp.exists() or stamp.read_text() != state:
            session.clear()
            stamp.write_text(state)
        tried = [item.mutations[0] for item in session.work_items]
        work(session, (each for each in drawn(TOP, modules, options.seed) if each not in tried), copies, judges, end)
        body = page(outcomes(session), areas, options.seed, commit)
    for each in copies:
        each.close()
    print(body)
    if not options.area and not options.no_page:
        write(TOP / "docs" / "testing.md", body)
    return 0


def together(task: Callable[[Copy], None], copies: Sequence[Copy]) -> None:
    """Do the same in all copies at once and wait for it; an error of one is raised."""
    with ThreadPoolExecutor(len(copies)) as threads:
        list(threads.map(task, copies))


def record(copies: list[Copy], judges: Judges) -> None:
    """Run the tests that were not recorded yet; leave if one fails without a mutant."""
    left = queue.SimpleQueue[str]()
    for file in judges.missing():
        left.put(file)

    def some(copy: Copy) -> None:
        with suppress(queue.Empty):
            while True:
                for file, found in copy.ask({"record": [left.get_nowait()]}).items():
                    judges.keep(file, found)

    together(some, copies)
    if judges.failed:
        sys.exit("\n".join(f"{file} fails without a mutant:\n{text}" for file, text in judges.failed.items()))
    judges.load()


def work(session: WorkDB, mutants: Iterator[MutationSpec], copies: list[Copy], judges: Judges, end: float) -> None:
    """Try mutants until the time is over; each outcome is kept as soon as it is there."""
    under_way: dict[Future[WorkResult], tuple[MutationSpec, Copy]] = {}
    with ThreadPoolExecutor(len(copies)) as threads:

        def go_on(copy: Copy) -> None:
            mutant = next(mutants, None) if time.monotonic() < end else None
            if mutant is not None:
                under_way[threads.submit(judged, mutant, copy, judges)] = mutant, copy

        for copy in copies:
            go_on(copy)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                mutant, copy = under_way.pop(future)
                item = WorkItem.single(f"{session.num_work_items:06}", mutant)
                session.add_work_item(item)
                session.set_result(item.job_id, future.result())
                go_on(copy)
            counted = outcomes(session)
            noticed = sum(count for (_, was), count in counted.items() if was)
            print(f"\r{noticed} of {sum(counted.values())} noticed", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def judged(mutant: MutationSpec, copy: Copy, judges: Judges) -> WorkResult:
    """Make one change in a copy and let the tests judge it; one that no test runs survives."""
    operator, path = get_operator(mutant.operator_name)(), copy.tree / mutant.module_path
    names = judges.of(mutant)
    answer = {"passed": True, "output": "no test runs it"}
    with use_mutation(path, operator, mutant.occurrence) as (before, after):
        if names:
            limit = MORE_SECONDS + PATIENCE * judges.seconds(names)
            answer = copy.ask({"tests": names, "seconds": limit})
    old, new = (f"{side}/{mutant.module_path}" for side in "ab")
    diff = "\n".join(difflib.unified_diff(before.split("\n"), after.split("\n"), old, new, lineterm=""))
    outcome = TestOutcome.SURVIVED if answer["passed"] else TestOutcome.KILLED
    return WorkResult(WorkerOutcome.NORMAL, str(answer["output"]), outcome, f"{len(names)} tests\n{diff}")


def outcomes(session: WorkDB) -> Counter[tuple[str, bool]]:
    """Return how many were noticed in each folder; the survivors' diffs go to a file beside the session."""
    items = {item.job_id: item.mutations[0] for item in session.work_items}
    counted: Counter[tuple[str, bool]] = Counter()
    survivors = []
    for job, result in session.results:
        counted[items[job].module_path.parts[1], bool(result.is_killed)] += 1
        if not result.is_killed:
            survivors.append(f"{items[job].operator_name}: {result.diff}\n")
    (FOLDER / "survivors.diff").write_text("\n".join(sorted(survivors)), encoding="utf-8")
    return counted


if __name__ == "__main__":
    sys.exit(main())

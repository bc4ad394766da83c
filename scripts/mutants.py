#!/usr/bin/env python3
"""Count how many small changes to the code the unit tests notice, and write the score to docs/testing.md.

Cosmic Ray makes the changes (mutants) and keeps their outcomes in build/mutants/session.sqlite. A seeded sample is
worked off until the time is over; the next run goes on where this one stopped, unless the code or its tests have
changed. Each mutant meets the unit tests of its own area alone, in one of two copies of the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import attrs
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkItem, WorkResult

TOP = Path(__file__).resolve().parent.parent
FOLDER = TOP / "build" / "mutants"
#: Unit tests by folder of the package. What takes longest comes last: the first failure ends a run.
AREAS: dict[str, tuple[str, ...]] = {
    "quantization": ("test_quantize_*.py",),
    "graph": ("test_graph_*.py",),
    "records": ("test_tuning_records.py", "test_commands_records.py", "test_tuning_session.py"),
    "artifact": ("test_artifact*.py", "test_release_folder.py", "test_killed.py"),
    "tuning": ("test_tuning_*.py", "test_tune_view.py"),
}
COPIED = ("tvmbuild", "tests", "targets", "devtools", "scripts", "benchmarks", "attacks", "examples", "docs")
COPIED_FILES = ("pyproject.toml", "README.md", "Makefile", "requirements.lock", "CHANGELOG.md", "LICENSE", "cli.py")
#: Operators whose mutants are mostly the same program: ``|`` stands in types, which nobody evaluates, and ``is`` and
#: ``==`` agree on small numbers and None.
LEFT_OUT = (
    "_BitOr",
    "BitOr_",
    "_Is",
    "Is_",
    "IsNot_",
    "BitXor",
    "_Pow",
    "Shift",
    "VariableReplacer",
    "VariableInserter",
)
WORKERS = 2
#: A mutant may take so many times what the unchanged code takes, and at least so many seconds.
PATIENCE, LEAST_SECONDS = 4, 60.0
START, END = "<!-- mutants: start -->", "<!-- mutants: end -->"


def main() -> int:
    """Work off mutants until the time is over, then write the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all of it (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the mutants (default: 0)")
    parser.add_argument("--count", type=int, default=400, help="mutants to draw when none is left (default: 400)")
    parser.add_argument("--area", choices=AREAS, help="only mutants of one folder; the page stays as it is")
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    FOLDER.mkdir(parents=True, exist_ok=True)
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(asked, cwd=TOP, capture_output=True, text=True, check=False).stdout.strip()
    trees = [copied(number) for number in range(WORKERS)]
    with use_db(FOLDER / "session.sqlite", WorkDB.Mode.create) as session:
        limits = refresh(session, trees[0])
        if not any(True for _ in session.pending_work_items):
            session.add_work_items(drawn(options.seed, session.num_work_items, options.count))
        pending = [item for item in session.pending_work_items if options.area in (None, area_of(item))]
        pending.sort(key=lambda item: item.job_id)
        work(session, pending, trees, limits, end)
        body = page(session, options.seed, commit)
    print(body)
    if not options.area:
        write(TOP / "docs" / "testing.md", body)
    return 0


def copied(number: int) -> Path:
    """Return a copy of the checkout, made anew: a run that was killed may have left a mutant in the last one."""
    tree = FOLDER / f"tree-{number}"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name in COPIED:
        shutil.copytree(TOP / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in COPIED_FILES:
        shutil.copy2(TOP / name, tree / name)
    return tree


def command(tree: Path, area: str) -> str:
    """Return the command that runs the unit tests of an area on the code of a copy."""
    files = [str(path) for pattern in AREAS[area] for path in sorted((tree / "tests" / "unit").glob(pattern))]
    python = f"{sys.executable} -m pytest -x -q -p no:cacheprovider -p no:xdist"
    return f"env -C {tree} PYTHONPATH={tree} {python} {' '.join(dict.fromkeys(files))}"


def area_of(item: WorkItem) -> str:
    """Return the folder that a mutant is in."""
    return item.mutations[0].module_path.parts[1]


def sources() -> list[Path]:
    """Return the modules to change, as paths in the checkout."""
    found = (path for area in AREAS for path in sorted((TOP / "tvmbuild" / area).rglob("*.py")))
    return [path.relative_to(TOP) for path in found if path.stat().st_size > 100]


def refresh(session: WorkDB, tree: Path) -> dict[str, float]:
    """List all mutants and try the tests without one, unless the session is of this code and these tests.

    Returns:
        How many seconds a mutant's tests may take, by area.
    """
    state = hashlib.sha256()
    for path in [*sources(), *(path.relative_to(TOP) for path in sorted((TOP / "tests").rglob("*.py")))]:
        state.update(str(path).encode() + (TOP / path).read_bytes())
    stamp = FOLDER / "state.json"
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    if known.get("state") != state.hexdigest():
        known = {"state": state.hexdigest(), "limits": {area: time_limit(tree, area) for area in AREAS}}
        session.clear()
        stamp.write_text(json.dumps(known))
    return {area: float(seconds) for area, seconds in known["limits"].items()}


def time_limit(tree: Path, area: str) -> float:
    """Run an area's tests without a mutant and return how many seconds one with a mutant may take."""
    started = time.monotonic()
    outcome, output = run_tests(command(tree, area), 600)
    if outcome != TestOutcome.SURVIVED:
        sys.exit(f"The unit tests of {area} fail without a mutant:\n{output}")
    return max(LEAST_SECONDS, PATIENCE * (time.monotonic() - started))


def drawn(seed: int, before: int, count: int) -> list[WorkItem]:
    """Draw mutants by a seed: a module by its size, then one of its mutants.

    Args:
        seed: of the draws.
        before: how many were drawn already; they are drawn again and left out.
        count: how many to draw.
    """
    generator = random.Random(seed)
    modules = sources()
    sizes = [(TOP / path).stat().st_size for path in modules]
    known: dict[Path, list[MutationSpec]] = {}
    items: list[WorkItem] = []
    # So many draws in a row that give nothing new mean that little is left.
    dry = 0
    while len(items) < before + count and dry < 1000:
        (path,) = generator.choices(modules, sizes)
        if path not in known:
            known[path] = mutants_of(path)
            generator.shuffle(known[path])
        dry = 0 if known[path] else dry + 1
        if known[path]:
            items.append(WorkItem.single(f"{len(items):06}", known[path].pop()))
    return items[before:]


def mutants_of(path: Path) -> list[MutationSpec]:
    """List the mutants of one module."""
    nodes = list(ast_nodes(get_ast_from_path(TOP / path)))
    found = []
    for name in sorted(operator_names()):
        operator_class = get_operator(name)
        if operator_class.arguments() or any(word in name for word in LEFT_OUT):
            continue
        operator = operator_class()
        positions = (place for node in nodes for place in operator.mutation_positions(node))
        found += [MutationSpec(path, name, number, *place) for number, place in enumerate(positions)]
    return found


def operator_of(item: WorkItem) -> str:
    """Return the name of what a mutant changes."""
    return str(item.mutations[0].operator_name)


def work(session: WorkDB, items: list[WorkItem], trees: list[Path], limits: dict[str, float], end: float) -> None:
    """Try mutants until the time is over; each outcome is kept as soon as it is there."""
    lock, left = threading.Lock(), iter(items)
    done: list[tuple[str, WorkResult]] = []

    def try_some(tree: Path) -> None:
        for item in taken(left, lock, end):
            here = [attrs.evolve(each, module_path=tree / each.module_path) for each in item.mutations]
            area = area_of(item)
            result = mutate_and_test(here, command(tree, area), min(limits[area], max(1.0, end - time.monotonic())))
            # A mutant that the end of the time cut off is no mutant that a test found.
            if time.monotonic() < end:
                with lock:
                    done.append((item.job_id, result))

    threads = [threading.Thread(target=try_some, args=(tree,)) for tree in trees]
    for thread in threads:
        thread.start()
    # SQLite wants its connection in the thread that made it.
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        keep(session, done, lock)
    keep(session, done, lock)


def taken(left: Iterator[WorkItem], lock: threading.Lock, end: float) -> Iterator[WorkItem]:
    """Yield what no other thread took, until the time is over."""
    while time.monotonic() < end:
        with lock:
            item = next(left, None)
        if item is None:
            return
        yield item


def keep(session: WorkDB, done: list[tuple[str, WorkResult]], lock: threading.Lock) -> None:
    """Write outcomes to the session."""
    with lock:
        some, done[:] = list(done), []
    for job, result in some:
        session.set_result(job, result)


def page(session: WorkDB, seed: int, commit: str) -> str:
    """Return the score as a table; the survivors' diffs go to a file beside the session."""
    items = {item.job_id: item for item in session.work_items}
    outcomes: Counter[tuple[str, bool]] = Counter()
    survivors = []
    for job, result in session.results:
        outcomes[area_of(items[job]), bool(result.is_killed)] += 1
        if not result.is_killed:
            survivors.append(f"{operator_of(items[job])}\n{result.diff}\n")
    (FOLDER / "survivors.diff").write_text("\n".join(sorted(survivors)), encoding="utf-8")
    lines = ["| folder | tried | noticed | share |", "| --- | ---: | ---: | ---: |"]
    rows = [(area, outcomes[area, True], outcomes[area, False]) for area in AREAS]
    rows.append(("all", *(sum(row[place] for row in rows) for place in (1, 2))))
    for name, noticed, missed in rows:
        share = f"{noticed / (noticed + missed):.0%}" if noticed + missed else "-"
        lines.append(f"| {name} | {noticed + missed} | {noticed} | {share} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("cosmic-ray", "pytest", "hypothesis"))
    python = ".".join(map(str, sys.version_info[:3]))
    return "\n".join([*lines, "", f"Seed {seed}, commit {commit}, Python {python}, {versions}."])


def write(path: Path, body: str) -> None:
    """Put the score between the markers of the page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(START)
    path.write_text(f"{before}{START}\n{body}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""``make mutants`` asks the tests that run the changed line, and says how sure its share is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from devtools.mutants import score
from devtools.mutants.judges import Judges, imports, statement_lines

SOURCE = '''"""A module."""
LIMIT = (
    3
)


@decorated(
    1
)
def function(a,
             b=2):
    """Words."""
    if (a and
            b):
        return [
            a,
        ]
    return b
'''


@pytest.mark.parametrize(
    ("line", "first", "last"),
    [(1, 1, 1), (3, 2, 4), (8, 7, 11), (11, 7, 11), (13, 13, 14), (14, 13, 14), (16, 15, 17), (18, 18, 18), (5, 5, 5)],
)
def test_a_line_stands_for_its_statement_and_of_a_compound_one_for_the_head(line: int, first: int, last: int) -> None:
    assert statement_lines(SOURCE, line) == range(first, last + 1)


def checkout(folder: Path) -> Path:
    for name, text in {
        "tvmbuild/graph/here.py": "LIMIT = 1\ndef work():\n    return LIMIT\n",
        "tvmbuild/graph/user.py": "from tvmbuild.graph.here import LIMIT\ndef use():\n    return LIMIT\n",
        "tvmbuild/device/other.py": "import tvmbuild.graph.here\n",
        "tests/unit/test_here.py": "from tvmbuild.graph import here\n",
        "tests/unit/test_user.py": "from tvmbuild.graph.user import use\n",
        "tests/unit/test_else.py": "from tvmbuild.device.other import x\n",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def recorded(lines: dict[str, dict[str, list[str]]], **seconds: float) -> dict[str, Any]:
    return {"seconds": seconds, "lines": lines, "ran": list(lines)}


def mutant(line: int) -> Any:
    return SimpleNamespace(module_path=Path("tvmbuild/graph/here.py"), start_pos=(line, 0))


def test_a_mutant_meets_the_tests_of_its_line_the_quickest_first(tmp_path: Path) -> None:
    top = checkout(tmp_path / "top")
    here, user = "tests/unit/test_here.py", "tests/unit/test_user.py"
    judges = Judges(top, tmp_path / "kept", ["graph"])
    assert judges.missing() == [here, user]
    module, other = "tvmbuild/graph/here.py", "tvmbuild/graph/user.py"
    judges.keep(here, recorded({module: {"1": [""], "3": ["a", "b"]}}, a=2.0, b=1.0))
    # A fixture of the file ran the line, so that it is said of all its tests.
    judges.keep(user, recorded({module: {"1": [""], "3": [user]}, other: {"3": ["c"]}}, c=70.0, d=0.5))
    assert judges.missing() == []
    judges.load()
    assert judges.of(mutant(3)) == ["d", "b", "a"]
    assert judges.seconds(["a", "b"]) == 3.0
    # What importing runs is judged by the tests of the module, then by those of its users, as long as there is time.
    assert judges.of(mutant(1)) == ["d", "b", "a"]
    state = judges.state
    (top / other).write_text("changed = 1\n")
    again = Judges(top, tmp_path / "kept", ["graph"])
    assert again.missing() == [user]
    assert again.state != state


def test_what_fails_without_a_mutant_is_told_and_not_kept(tmp_path: Path) -> None:
    judges = Judges(checkout(tmp_path / "top"), tmp_path / "kept", ["graph"])
    judges.keep("tests/unit/test_here.py", {"failed": "it broke"})
    assert judges.failed == {"tests/unit/test_here.py": "it broke"}
    assert "tests/unit/test_here.py" in judges.missing()


def test_imports_are_modules_and_not_their_names(tmp_path: Path) -> None:
    top = checkout(tmp_path)
    assert imports(top, top / "tests/unit/test_here.py") == {"tvmbuild/graph/here.py"}
    assert imports(top, top / "tvmbuild/device/other.py") == {"tvmbuild/graph/here.py"}


@pytest.mark.parametrize(
    ("noticed", "tried", "low", "high"), [(0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (85, 100, 0.767, 0.907)]
)
def test_the_interval_is_wilsons(noticed: int, tried: int, low: float, high: float) -> None:
    assert score.interval(noticed, tried) == pytest.approx((low, high), abs=2e-3)


def test_the_page_has_a_row_for_each_folder_and_their_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "version", lambda name: "1")
    found = score.page(
        Counter({("graph", True): 3, ("graph", False): 1, ("records", True): 1}),
        ["graph", "records", "tuning"],
        7,
        "abc",
    )
    assert "| graph | 4 | 3 | 75% | 30% to 95% |" in found
    assert "| tuning | 0 | 0 | - | - |" in found
    assert "| all | 5 | 4 | 80% | 38% to 96% |" in found
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- mutants: start -->\nold\n<!-- mutants: end -->\nafter\n")
    score.write(path, found)
    assert path.read_text() == f"before\n<!-- mutants: start -->\n{found}\n<!-- mutants: end -->\nafter\n"

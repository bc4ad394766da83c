"""bundle.conf as it is written has the grammar of docs/release.md; the board's reader is held against it too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundle_grammar import bundle_conf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tvmbuild.releases import bundle
from tvmbuild.releases.golden import GoldenOutput
from tvmbuild.releases.templates import GOLDEN, check_name, golden_folder
from tvmbuild.support.errors import OptionError
from tvmbuild.target.target import known_targets, load_target

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,69}", fullmatch=True)
BOARDS = [load_target(name) for name in known_targets() if name != "host"]


@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    boards=st.lists(st.sampled_from(BOARDS), min_size=4, max_size=4),
    tolerance=st.floats(0, 1000),
    outputs=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_has_the_grammar(names, boards, tolerance, outputs, monkeypatch):
    monkeypatch.setattr(bundle, "read_elf", lambda _: SimpleNamespace(glibc="2.28"))
    for name in names:
        check_name(name, "artifact name")
    packed: list[Any] = [SimpleNamespace(folder=Path("nowhere"), manifest=SimpleNamespace(name=name)) for name in names]
    folders = [golden_folder(names, name) for name in names]
    golden = [[GoldenOutput(f"{folder}/output_{i}.npy", tolerance) for i in range(outputs)] for folder in folders]
    text = bundle._conf(names[0], packed, boards[: len(names)], golden)
    assert bundle_conf().fullmatch(text)


def test_a_name_that_the_grammar_has_not_is_refused_before():
    good = f"{bundle._CONF_VERSION}\nname {{}}\narch a\nglibc 2\ntvm-ffi 1\nlibrary l\ncpu c\n"
    good += f"output {GOLDEN}/o 0\n"
    assert bundle_conf().fullmatch(good.format("n"))
    for name in ("", "a b", "a/b", "../a", ".a", "-a", "a\nb", "\u00e4", "n" * 101):
        assert not bundle_conf().fullmatch(good.format(name))
        with pytest.raises(OptionError):
            check_name(name, "bundle name")

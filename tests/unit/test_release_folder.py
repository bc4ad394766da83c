"""The folder that a release is published as."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvmbuild.releases.run import require_release
from tvmbuild.support.atomic import staging
from tvmbuild.support.atomic.staging import staged_folder
from tvmbuild.support.errors import OptionError, OutputError


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_takes_its_place_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(staging.ctypes, "CDLL", lambda *_, **__: object())
    place = tmp_path / "releases" / "1.0"
    for content in ("old", "new"):
        with staged_folder(place) as aside:
            (aside / content).write_text(content)
        assert [path.name for path in place.iterdir()] == [content]

    def fail() -> None:
        with staged_folder(place) as aside:
            (aside / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in place.parent.rglob("*")] == ["1.0", "new"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), staged_folder(tmp_path / "file" / "1.0"):
        pass


def test_a_folder_that_is_no_release_is_not_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "1.0"
    precious.mkdir()
    require_release(precious)
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(OptionError, match="no release"):
        require_release(precious)
    (precious / "SHA256SUMS").write_text("")
    require_release(precious)
    require_release(tmp_path / "none")
    with pytest.raises(OptionError, match="no release"):
        require_release(precious / "thesis.tex")


def test_a_link_to_a_folder_is_replaced_by_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "1.0").symlink_to(tmp_path / "elsewhere")
    with staged_folder(tmp_path / "dist" / "1.0") as aside:
        (aside / "new").write_text("")
    assert [path.name for path in (tmp_path / "dist").iterdir()] == ["1.0"]
    assert (tmp_path / "elsewhere").is_dir()

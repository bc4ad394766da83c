"""The settings of the remote cache: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvmbuild.artifact.build_store import BuildStore, StoreEntry
from tvmbuild.releases.remote_cache import open_remote
from tvmbuild.releases.signing import new_keys
from tvmbuild.support.errors import OptionError

URL, TRUSTED, KEY = "TVMBUILD_REMOTE_CACHE", "TVMBUILD_CACHE_TRUSTED_KEY", "TVMBUILD_CACHE_KEY"
UNSIGNED, TIMEOUT = "TVMBUILD_CACHE_UNSIGNED", "TVMBUILD_CACHE_TIMEOUT"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({URL: "/mnt/x"}, "no key to check"),
        ({URL: "/mnt/x", TRUSTED: "none.pub"}, "cannot be read"),
        ({URL: "/mnt/x", KEY: "none.key"}, "cannot be read"),
        ({URL: "/mnt/x", UNSIGNED: "1", TRUSTED: "release.pub"}, "pointless"),
        ({URL: "no-such-kind://x", UNSIGNED: "1"}, "no known kind"),
        ({URL: "wandb://x", UNSIGNED: "1"}, "Install wandbfs"),
        ({URL: "/mnt/x", UNSIGNED: "1", TIMEOUT: "inf"}, "cache_timeout"),
        ({URL: "/mnt/x", UNSIGNED: "1", TIMEOUT: "0"}, "cache_timeout"),
    ],
)
def test_wrong_settings_are_refused(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], words: str
) -> None:
    new_keys(in_empty_folder)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=words):
        open_remote({}, in_empty_folder, print)


def test_settings_come_from_the_project_and_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    new_keys(project)
    text = '[cache]\nremote_cache = "shared"\ncache_trusted_key = ["release.pub"]\n'
    (project / "tvmbuild.toml").write_text(text)

    def get(machine: str, flags: dict[str, str]) -> StoreEntry:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / machine))
        with BuildStore(open_remote(flags, project, pytest.fail)) as store:
            return store.get("net", {"n": "1"}, lambda folder: (folder / "x").write_text("x"))

    assert not get("writer", {"cache_key": str(project / "release.key")}).fetched
    assert len(list((project / "shared").rglob("*/*"))) == 1
    assert get("reader", {}).fetched
    assert not get("alone", {"remote_cache": ""}).fetched

"""A kill at any moment and a full disk leave the old release whole, and the next run leaves nothing else behind.

``tests/unit/test_killed.py`` kills at each step of publishing; here it is the whole command, at random moments.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tvmbuild.artifact.checksums import check_sums
from tvmbuild.commands.app import run
from tvmbuild.support import errors
from tvmbuild.support.cache import cache_root

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "examples" / "user-project"
SUMS = "dist/0.1.0/SHA256SUMS"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example for one board, and a cache that holds two of its releases, of different times."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("killed") / "project"))
    subprocess.run([sys.executable, "model.py"], cwd=folder, check=True)
    settings = folder / "tvmbuild.toml"
    settings.write_text(settings.read_text().replace('targets = ["rpi4", "rpi5"]', 'targets = ["rpi4"]'))
    new_cache(folder / "cache")
    for epoch in (1, 2):
        assert release(folder, epoch).wait() == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project / "cache"))


def new_cache(folder: Path) -> None:
    """Make an empty cache, with the downloads and the board's programs of the usual one."""
    (folder / "tvmbuild").mkdir(parents=True)
    usual = cache_root()
    for kept in [*usual.glob("runtime-*"), *usual.glob("runner-*"), *usual.glob("check-*")]:
        (folder / "tvmbuild" / kept.name).symlink_to(kept.resolve())


def release(
    project: Path, epoch: int, cache: str = "cache", limit: Callable[[], None] | None = None
) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(TOP), "SOURCE_DATE_EPOCH": str(epoch)}
    environment["XDG_CACHE_HOME"] = str(project / cache)
    command = [sys.executable, "-m", "tvmbuild", "release", "-q"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=limit
    )


def killed_after(process: subprocess.Popen[str], seconds: float) -> bool:
    time.sleep(seconds)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def litter(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in folder.rglob(".*") if not path.name.endswith(".lock")]


def release_here(monkeypatch: pytest.MonkeyPatch, epoch: int) -> int:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(epoch))
    return run(["release", "-q"])


def test_a_kill_at_a_random_moment(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {}
    for epoch in (1, 2):
        started = time.monotonic()
        assert release(project, epoch).wait() == 0
        seconds = time.monotonic() - started
        sums[epoch] = Path(SUMS).read_text()
    rng, killed = random.Random(0), 0
    for attempt in range(8):
        # The first half is Python's imports.
        killed += killed_after(release(project, 1 + attempt % 2), rng.uniform(0.4, 1.0) * seconds)
        check_sums(Path("dist/0.1.0"))
        assert Path(SUMS).read_text() in sums.values()
        assert release_here(monkeypatch, 2 - attempt % 2) == 0
        assert Path(SUMS).read_text() == sums[2 - attempt % 2]
        assert os.listdir("dist") == ["0.1.0"]  # noqa: PTH208
    assert killed
    assert litter(Path("dist"), Path("cache/tvmbuild/store")) == []


def test_a_kill_while_building(project: Path) -> None:
    assert release(project, 1).wait() == 0
    before = Path(SUMS).read_text()
    new_cache(project / "other")
    rng = random.Random(1)
    for _ in range(2):
        killed_after(release(project, 1, "other"), rng.uniform(1.5, 5.0))
        check_sums(Path("dist/0.1.0"))
    assert release(project, 1, "other").wait() == 0
    assert Path(SUMS).read_text() == before
    assert litter(Path("dist"), Path("other/tvmbuild/store")) == []


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """A file system of 16 MB at dist/."""
    shutil.rmtree(project / "dist", ignore_errors=True)
    (project / "dist").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(project / "dist")]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root, to mount a small file system")
    yield project / "dist"
    subprocess.run(["umount", str(project / "dist")], check=True)


@pytest.mark.parametrize("free", [0, 1000, 100_000, 3_000_000, 5_800_000])
def test_a_full_disk(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int
) -> None:
    assert release_here(monkeypatch, 1) == 0
    before = Path(SUMS).read_text()
    filler = small_disk / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(small_disk).free - free)
    assert release_here(monkeypatch, 2) == errors.OutputError.exit_code
    assert "the disk is full" in capsys.readouterr().err
    check_sums(Path("dist/0.1.0"))
    assert Path(SUMS).read_text() == before
    filler.unlink()
    assert os.listdir("dist") == ["0.1.0"]  # noqa: PTH208
    assert release_here(monkeypatch, 2) == 0
    assert Path(SUMS).read_text() != before


@pytest.mark.parametrize(
    ("cache", "largest"), [("cache", 0), ("cache", 100_000), ("cache", 3_000_000), ("new", 1000), ("new", 3_000_000)]
)
def test_files_that_may_not_grow(project: Path, monkeypatch: pytest.MonkeyPatch, cache: str, largest: int) -> None:
    """As a full disk, but for everyone: in the release's files with a full cache, in the build's with a new one."""
    assert release_here(monkeypatch, 1) == 0
    before = Path(SUMS).read_text()
    if not (project / cache).exists():
        new_cache(project / cache)
    limited = release(project, 2, cache, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest)))
    _, told = limited.communicate()
    assert limited.returncode == errors.OutputError.exit_code, told
    assert "error: " in told
    check_sums(Path("dist/0.1.0"))
    assert Path(SUMS).read_text() == before
    assert release_here(monkeypatch, 2) == 0
    assert Path(SUMS).read_text() != before
    assert litter(Path("dist"), Path("cache/tvmbuild/store")) == []


def test_a_cache_recovers_from_a_full_disk(project: Path) -> None:
    assert release(project, 2, "new").wait() == 0
    assert litter(Path("new/tvmbuild/store")) == []

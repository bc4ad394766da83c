"""Releases: what is written, what comes from the cache, and that the same inputs give the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from test_bundle import run as selftest

from tvmbuild import pipeline
from tvmbuild.artifact.checksums import check_sums
from tvmbuild.commands.app import run
from tvmbuild.releases.signing import new_keys
from tvmbuild.support import errors
from tvmbuild.support.cache import cache_root
from tvmbuild.target.target import load_target

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "examples" / "user-project"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own: what is built here and what is not has to be known. Downloads are shared."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "tvmbuild").mkdir()
    for kept in [*cache_root().glob("runtime-*"), *cache_root().glob("runner-*"), *cache_root().glob("check-*")]:
        (folder / "tvmbuild" / kept.name).symlink_to(kept)
    return folder


@pytest.fixture
def project(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example with its model, for one board."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "project"))
    subprocess.run([sys.executable, "model.py"], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


def only_rpi4(project: Path) -> None:
    settings = project / "tvmbuild.toml"
    settings.write_text(settings.read_text().replace('targets = ["rpi4", "rpi5"]', 'targets = ["rpi4"]'))


def make(project: Path, *arguments: str) -> str:
    tvmbuild = f"{sys.executable} -m tvmbuild"
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    command = ["make", f"TVMBUILD={tvmbuild}", *arguments]
    return subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_example_is_what_init_writes(tmp_path: Path) -> None:
    arguments = ["init", "net.onnx", "-t", "rpi4", "-t", "rpi5", "--shape", "x=1,3,16,16", "-o", str(tmp_path)]
    assert run(arguments) == 0
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert path.read_text() == (EXAMPLE / path.relative_to(tmp_path)).read_text()
    assert run(arguments) == errors.OptionError.exit_code


def test_a_users_makefile_builds_verifies_and_releases_twice(project: Path) -> None:
    make(project, "verify")
    dist = project / "dist"
    assert 'failures="0"' in (dist / "net-rpi4.xml").read_text()
    assert (dist / "net-rpi5.so").is_file()
    assert "tvmbuild" not in make(project, "verify")
    released = make(project, "release")
    assert "net-rpi4: as 'tvmbuild build' made it, verified, since it was never built here" in released
    folder = project / "release" / "0.1.0"
    assert {"net-rpi4.so", "net-rpi5-0.1.0.tar.gz", "release-notes.md", "sbom.cdx.json"} <= set(check_sums(folder))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "net-rpi4: from the cache" in make(project, "release")
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    (project / "tvmbuild.toml").touch()
    assert make(project, "-n").count("tvmbuild build") == 2


def test_a_signed_release_is_checked_and_a_changed_file_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_rpi4(project)
    private, public = new_keys(project / "keys")
    _, other = new_keys(project / "other")
    assert run(["release", "--key", str(private)]) == 0
    folder = project / "dist" / "0.1.0"
    for signed in (folder, folder / "net-rpi4-0.1.0.tar.gz", folder / "net-rpi4.so"):
        assert run(["verify", str(signed), "--signature", str(public)]) == 0
    assert run(["verify", str(folder), "--signature", str(other)]) == errors.ArtifactError.exit_code
    (folder / "net-rpi4.tar").write_bytes(b"changed")
    capsys.readouterr()
    assert run(["verify", str(folder), "--signature", str(public)]) == errors.ArtifactError.exit_code
    assert "net-rpi4.tar differs" in capsys.readouterr().err


def test_explain_says_what_changed_and_a_damaged_entry_is_built_again(
    project: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_rpi4(project)
    assert run(["release"]) == 0
    settings = project / "tvmbuild.toml"
    settings.write_text(settings.read_text().replace("x=1,3,16,16", "x=1,3,16,20"))
    capsys.readouterr()
    assert run(["release", "--explain"]) == 0
    assert "net-rpi4: built, since the options changed" in capsys.readouterr().out
    for library in cache.glob("tvmbuild/store/*/*/net-rpi4.so"):
        library.write_bytes(b"damaged")
    assert run(["release", "--explain"]) == 0
    assert "net-rpi4: built, since its cached files were damaged" in capsys.readouterr().out


def test_a_failed_release_leaves_the_old_one_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_rpi4(project)
    assert run(["release"]) == 0
    folder = project / "dist" / "0.1.0"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    settings = project / "tvmbuild.toml"
    settings.write_text(settings.read_text() + "tolerance = 1e-12\n")
    assert run(["release"]) == errors.VerificationError.exit_code
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert [path.name for path in (project / "dist").iterdir()] == ["0.1.0"]


@pytest.mark.usefixtures("predictor")
def test_int8_and_predicted_times_are_in_the_notes_beside_the_last_release(project: Path) -> None:
    (project / "samples").mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        np.save(project / "samples" / f"{number}.npy", rng.uniform(-1, 1, (1, 3, 16, 16)).astype("float32"))
    settings = project / "tvmbuild.toml"
    text = settings.read_text().replace('targets = ["rpi4", "rpi5"]', 'targets = ["rpi4"]\npredict = true')
    settings.write_text(text + 'precision = ["int8"]\ncalibrate = "samples"\n')
    assert run(["release"]) == 0
    assert run(["release", "--version", "0.2.0", "--against", "dist/0.1.0/release.json"]) == 0
    notes = (project / "dist" / "0.2.0" / "release-notes.md").read_text()
    assert "Compared with 0.1.0." in notes
    row = next(line for line in notes.splitlines() if line.startswith("| net-rpi4-int8 |"))
    assert "(the same)" in row
    assert "| 100% |" in row
    assert row.endswith("ms (+0.0%) |")
    assert (project / "dist" / "0.2.0" / "net.int8.onnx").is_file()


def test_two_releases_at_once_share_the_cache(project: Path) -> None:
    only_rpi4(project)
    settings = project / "tvmbuild.toml"
    settings.write_text(settings.read_text().replace("x=1,3,16,16", "x=1,3,24,16"))
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    outcomes: list[str] = []

    def one(number: int) -> None:
        command = [sys.executable, "-m", "tvmbuild", "release", "-o", f"dist{number}", "--json", "-q"]
        outcomes.append(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)

    threads = [threading.Thread(target=one, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (json.loads(text) for text in outcomes)
    assert first["cells"] == second["cells"]
    sums = [(project / f"dist{number}" / "0.1.0" / "SHA256SUMS").read_text() for number in (1, 2)]
    assert sums[0] == sums[1]


def test_a_second_machine_builds_nothing(
    project: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = project / "tvmbuild.toml"
    settings.write_text(
        settings.read_text() + '[cache]\nremote_cache = "shared"\ncache_trusted_key = "cache/release.pub"\n'
    )
    private, _ = new_keys(project / "cache")
    for machine in ("first", "second"):
        (tmp_path / machine / "tvmbuild").mkdir(parents=True)
        for kept in [path for path in (cache / "tvmbuild").iterdir() if path.is_symlink()]:
            (tmp_path / machine / "tvmbuild" / kept.name).symlink_to(kept.readlink())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    monkeypatch.setenv("TVMBUILD_CACHE_KEY", str(private))
    assert run(["release", "-o", "first"]) == 0
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    monkeypatch.delenv("TVMBUILD_CACHE_KEY")
    monkeypatch.setattr(pipeline, "build", None)
    capsys.readouterr()
    assert run(["release", "-o", "second", "--explain"]) == 0
    printed = capsys.readouterr()
    assert (
        "net-rpi4: from the remote cache\nnet-rpi5: from the remote cache\nnet-rpi4-0.1.0.tar.gz: from the remote cache"
        in printed.out
    )
    assert "2 artifacts, 0 of them built now, 2 from the remote cache" in printed.err
    names = check_sums(project / "first" / "0.1.0")
    assert check_sums(project / "second" / "0.1.0") == names
    for name in names:
        assert (project / "first" / "0.1.0" / name).read_bytes() == (project / "second" / "0.1.0" / name).read_bytes()


def with_large_weights(project: Path) -> None:
    """Make the model one whose boards have weights to share."""
    source = (project / "model.py").read_text()
    subprocess.run([sys.executable, "-c", source.replace("8", "64")], cwd=project, check=True)


def test_one_bundle_for_several_boards(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_large_weights(project)
    command = ["release", "--targets", "rpi3,rpi4,rpi5", "--explain"]
    assert run(command) == 0
    said = capsys.readouterr().out
    assert "net-rpi3: built, since" in said
    assert "net-0.1.0.tar.gz: built, since it was never built here" in said
    folder = project / "dist" / "0.1.0"
    published = check_sums(folder)
    assert [name for name in published if name.endswith(".gz")] == ["net-0.1.0.tar.gz"]
    assert {f"net-{board}.so" for board in ("rpi3", "rpi4", "rpi5")} <= set(published)
    assert "net-0.1.0.tar.gz | rpi3, rpi4, rpi5 |" in (folder / "release-notes.md").read_text()
    listed = json.loads((folder / "sbom.cdx.json").read_text())["components"]
    assert "net-0.1.0.tar.gz" in [component["name"] for component in listed]
    with tarfile.open(folder / "net-0.1.0.tar.gz") as archive:
        archive.extractall(project, filter="data")
    bundle = project / "net-0.1.0"
    assert list(bundle.glob("weights-*.so"))
    for board in ("rpi3", "rpi4", "rpi5"):
        code, text = selftest(bundle, "--selftest", cpu=load_target(board).qemu_cpu)
        assert (code, f"; library net-{board}\n" in text) == (0, True), text
    assert run(command) == 0
    assert capsys.readouterr().out.count("from the cache") == 4


def test_a_release_is_reproducible(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_large_weights(project)
    assert run(["release", "--check-reproducible", "--targets", "rpi4,rpi5"]) == 0
    assert "files are the same, built twice in different conditions" in capsys.readouterr().out

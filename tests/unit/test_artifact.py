from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmbuild.artifact import checksums
from tvmbuild.artifact import open as artifact_open
from tvmbuild.artifact.checksums import SUMS_NAME, sums_text
from tvmbuild.artifact.manifest import Manifest, file_entry, read_manifest
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import target_of
from tvmbuild.commands.app import run
from tvmbuild.support.atomic.staging import staged, write_whole
from tvmbuild.support.errors import ArtifactError, OutputError
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.target.target import load_target

MANIFEST = Manifest(
    name="net-rpi4",
    model={"file": "net.onnx", "sha256": "0" * 64},
    inputs=(TensorSpec("input.1", "float32", (1, 3, 8, 8)), TensorSpec("sr", "int64", ())),
    outputs=(TensorSpec("save/scale_0.tmp_1", "float32", (1, 2)),),
    target=json.loads(json.dumps(dataclasses.asdict(load_target("rpi4")))),
    toolchain={"name": "gnu", "version": "12"},
    packages={"tvmbuild": "0.1.0"},
    fusion={"passes": [], "kernels": []},
    memory={"arena": 1, "naive": 2},
    options={"shape": [], "value": [], "precision": "fp32"},
)


def write_artifact(folder: Path) -> Path:
    for ending, content in ((".so", b"library"), (".tar", b"archive")):
        (folder / f"net-rpi4{ending}").write_bytes(content)
    files = tuple(file_entry(folder / f"net-rpi4{ending}") for ending in (".so", ".tar"))
    path = folder / "net-rpi4.json"
    path.write_text(dataclasses.replace(MANIFEST, files=files).to_json())
    return path


def test_manifest_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(MANIFEST.to_json())
    assert read_manifest(path) == MANIFEST


#: What a target was described by when manifests got version 2. What came later must have a default.
TARGET_OF_VERSION_2 = (
    *("name", "description", "triple", "cpu", "features", "cores", "l1d_kib", "l2_kib", "max_mhz", "glibc"),
    *("toolchains", "qemu_cpu"),
)


def test_a_manifest_of_before_is_read(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    written = json.loads(path.read_text())
    written["target"] = {key: written["target"][key] for key in TARGET_OF_VERSION_2}
    path.write_text(json.dumps(written))
    assert target_of(open_artifact(path)).l3_kib == 0
    del written["target"]["qemu_cpu"]
    path.write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match="'target' lacks qemu_cpu"):
        target_of(open_artifact(path))


@pytest.mark.parametrize("ending", [".json", ".so", ".tar", ""])
def test_open_by_any_of_its_names(tmp_path: Path, ending: str) -> None:
    write_artifact(tmp_path)
    artifact = open_artifact(tmp_path / f"net-rpi4{ending}")
    assert artifact.library == tmp_path / "net-rpi4.so"
    assert artifact.archive.read_bytes() == b"archive"


def test_a_changed_byte_or_a_lost_file_is_named(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    (tmp_path / "net-rpi4.so").write_bytes(b"librarx")
    with pytest.raises(ArtifactError, match=r"net-rpi4\.so is damaged"):
        open_artifact(path)
    (tmp_path / "net-rpi4.so").unlink()
    with pytest.raises(ArtifactError, match=r"net-rpi4\.so is missing"):
        open_artifact(path)


def unreadable(path: Path) -> str:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_artifact(tmp_path)
    (tmp_path / SUMS_NAME).write_text(sums_text({path.name: path}))
    monkeypatch.setattr(artifact_open, "sha256_of", unreadable)
    monkeypatch.setattr(checksums, "sha256_of", unreadable)
    with pytest.raises(ArtifactError, match="cannot be read: Permission denied"):
        open_artifact(path)
    with pytest.raises(ArtifactError, match=f"{path.name} cannot be read"):
        checksums.check_sums(tmp_path)


def test_files_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path = write_artifact(tmp_path)
    path.write_text(path.read_text().replace("net-rpi4.so", "../net-rpi4.so"))
    with pytest.raises(ArtifactError, match="must be a file's name"):
        open_artifact(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": "tvmbuild-manifest", "version": 99}',
        '{"format": "tvmbuild-manifest", "version": 1}',
        '{"format": "tvmbuild-manifest", "version": 2}',
        "\0",
        "[" * 100_000,
    ],
)
def test_foreign_and_damaged_manifests_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(ArtifactError):
        read_manifest(path)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(json.loads(MANIFEST.to_json()))), value=_JSON)
def test_any_value_in_any_field_reads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    content = json.loads(MANIFEST.to_json())
    content[key] = value
    path = tmp_path_factory.mktemp("m") / "m.json"
    path.write_text(json.dumps(content))
    with contextlib.suppress(ArtifactError):
        assert isinstance(read_manifest(path), Manifest)


#: Fields that readers of a manifest rely on, and values that are of the right type and yet cannot be.
LACKING = [
    ("model", "file"),
    ("model", "sha256"),
    ("target", "name"),
    ("target", "triple"),
    ("target", "features"),
    ("toolchain", "name"),
    ("fusion", "passes"),
    ("fusion", "kernels"),
    ("memory", "arena"),
    ("options", "shape"),
]
IMPOSSIBLE = [
    ("name", ""),
    ("name", "a\0b"),
    ("name", "a" * 300),
    ("inputs", [{"name": "x", "dtype": "complex64", "shape": []}]),
    ("inputs", [{"name": "x", "dtype": "float32", "shape": [1] * 1000}]),
    ("inputs", [{"name": "x", "dtype": "float32", "shape": [2**31 - 1, 2**31 - 1]}]),
    ("inputs", [{"name": "x", "dtype": "float32", "shape": [-1]}]),
    ("inputs", [{"name": "x", "dtype": "float32", "shape": [2.5]}]),
    ("files", [{"name": "a.so", "bytes": -1, "sha256": "0" * 64}]),
    ("files", [{"name": "a.so", "bytes": 1, "sha256": "0"}]),
    ("fusion", {"passes": [{"what": "x", "applied": "3", "total": 3}], "kernels": []}),
    ("fusion", {"passes": [], "kernels": [], "int8": 3}),
    ("model", {"file": "x", "sha256": "0" * 64, "frozen": {"x": {"dtype": "int64", "value": [[1], [2, 3]]}}}),
    ("model", {"file": "x", "sha256": "0" * 64, "frozen": {"x": {"dtype": "int8", "value": 10**18}}}),
]


@pytest.mark.parametrize(("part", "field"), LACKING)
@pytest.mark.parametrize("value", [None, {}])
def test_a_manifest_that_lacks_a_field_is_refused(
    part: str, field: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(MANIFEST.to_json())
    del content[part][field]
    if value is not None:
        content[part][field] = value
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert run(["inspect", str(tmp_path / "m.json")]) == ArtifactError.exit_code
    assert field in capsys.readouterr().err


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_a_manifest_with_values_that_cannot_be_is_refused(key: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps({**json.loads(MANIFEST.to_json()), key: value}))
    with pytest.raises(ArtifactError, match=r"The manifest .*m\.json"):
        read_manifest(tmp_path / "m.json")


def test_what_later_versions_add_is_kept(tmp_path: Path) -> None:
    content = json.loads(MANIFEST.to_json())
    content["fusion"]["more"] = {"deep": [1]}
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert read_manifest(tmp_path / "m.json").fusion["more"] == {"deep": [1]}


def test_staging_replaces_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with staged(tmp_path) as aside:
            (aside / "a").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with staged(tmp_path) as aside:
        (aside / "a").write_text("new")
        (aside / "b").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


def test_a_full_disk_is_said_and_changes_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged(tmp_path):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="the disk is full"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "dist" / "x.txt", "text")
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "dist" / "deeper" / "x.txt", "text")


@pytest.mark.parametrize("change", ["blank line", "pipe", "link", "cut off", "line break of another kind", "twice"])
def test_checksums_that_are_no_plain_file_or_not_whole_are_refused(change: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    sums = tmp_path / SUMS_NAME
    text = sums_text({"a": tmp_path / "a"})
    sums.write_text(text)
    assert checksums.check_sums(tmp_path) == ["a"]
    changed = {
        "blank line": f"\n{text}",
        "cut off": text[:-1],
        "line break of another kind": text.replace("\n", "\x0b\n"),
        "twice": text * 2,
    }
    sums.unlink()
    if change == "pipe":
        os.mkfifo(sums)
    elif change == "link":
        (tmp_path.parent / "elsewhere").write_text(text)
        sums.symlink_to(tmp_path.parent / "elsewhere")
    else:
        sums.write_text(changed[change])
    with pytest.raises(ArtifactError, match=r"SHA256SUMS is (no plain file|damaged)"):
        checksums.check_sums(tmp_path)

"""Packed entries that are damaged in any way are refused, or give what was packed."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tvmbuild.artifact.entry import INDEX, is_whole, pack, unpack, write_index
from tvmbuild.artifact.members import Limits
from tvmbuild.support.errors import ArtifactError

KEY = "ab" * 32
FILES = {"net.so": b"\x7fELF" * 300, "net.json": b"{}", "empty": b""}
SMALL = Limits(files=10, bytes=1 << 20)


def packed_entry() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made"
        made.mkdir()
        for name, content in FILES.items():
            (made / name).write_bytes(content)
        write_index(made)
        pack(KEY, made, Path(folder) / "packed", None)
        return (Path(folder) / "packed").read_bytes()


PACKED = packed_entry()
POSITIONS = st.integers(0, len(PACKED) - 1)


@given(POSITIONS, st.integers(1, 255), POSITIONS, st.binary(max_size=600), st.sampled_from(["change", "cut", "insert"]))
@settings(max_examples=200)
def test_any_damage(at: int, change: int, start: int, more: bytes, how: str) -> None:
    content = bytearray(PACKED)
    if how == "change":
        content[at] ^= change
    elif how == "cut":
        del content[min(at, start) : max(at, start)]
    else:
        content[at:at] = more
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "packed").write_bytes(content)
        place = Path(folder) / "place"
        place.mkdir()
        try:
            unpack(KEY, Path(folder) / "packed", place, None, SMALL)
        except ArtifactError:
            assert list(place.iterdir()) == []
        else:
            assert {path.name: path.read_bytes() for path in place.iterdir() if path.name != INDEX} == FILES
            assert is_whole(place)
        assert {path.name for path in Path(folder).iterdir()} == {"packed", "place"}

"""What comes from outside becomes a value of a declared type, or an error that names file and field."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tvmbuild.support.border import DEEPEST, LARGEST_TOML, Border, Count
from tvmbuild.support.errors import FetchError

BORDER = Border("The list", FetchError, "Write it anew.", largest=1 << 19)


@dataclass(frozen=True)
class Item:
    name: str
    size: Count = 0


@dataclass(frozen=True)
class Listed:
    items: tuple[Item, ...]
    by_name: dict[str, Item] | None = None
    share: float = 0.5


def read(folder: Path, text: str) -> Listed:
    path = folder / "list.toml"
    path.write_text(text)
    return BORDER.checked(BORDER.toml(path), Listed, path)


def test_values_keep_their_types(tmp_path: Path) -> None:
    listed = read(tmp_path, 'share = 1\nitems = [{name = "a", size = 3}]\n')
    assert listed == Listed((Item("a", 3),), share=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "list.toml lacks items"),
        ("items = 3", "'items' must be a list, not a whole number"),
        ("items = [3]", r"'items\[0\]' must be a table"),
        ("items = [{}]", r"'items\[0\]' lacks name"),
        ("items = [{name = 'a', size = 2.7}]", r"'items\[0\].size' must be a whole number, not a number"),
        ("items = [{name = 'a', size = -1}]", r"'items\[0\].size' must be a whole number >= 0"),
        ("items = [{name = 'a', siez = 1}]", r"'items\[0\]' has an unknown key 'siez'"),
        ("item = []", "list.toml has an unknown key 'item'"),
    ],
)
def test_errors_name_the_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(FetchError, match=said) as caught:
        read(tmp_path, text)
    assert caught.value.hint


def test_the_nearest_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        read(tmp_path, "itmes = []")
    assert caught.value.hint == "Did you mean 'items'?"


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 50_000,
        "a = " + "{b = " * 5_000,
        "a = " + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        "a" + ".a" * 100_000 + " = 1",
        "[a" + ".a" * 100_000 + "]",
        "a = " + "9" * 5_000,
        "a = 9999-99-99",
        'a = "\\ud800"',
        "#" * (LARGEST_TOML + 1),
        "a = 1\na = 2",
        "\0",
    ],
)
def test_absurd_toml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(FetchError, match="cannot be read"):
        read(tmp_path, text)


def test_a_number_without_text_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="'items' must be a list"):
        read(tmp_path, "items = 0x" + "f" * 50_000)


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '"\\ud800"', "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "{}{}", "9" * 5_000]
)
def test_absurd_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(FetchError, match="cannot be read"):
        BORDER.json(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes((1 << 19) + 1))
    (tmp_path / "latin").write_bytes(b"\xff")
    for name in ("none", "pipe", "large", "latin", "", "a" * 300, "/".join(["a" * 200] * 30), "a\0b"):
        with pytest.raises(FetchError, match=r"The list .* cannot be read: "):
            BORDER.text(tmp_path / name)

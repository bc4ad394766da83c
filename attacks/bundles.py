"""Bundles: files changed, removed, added and exchanged for links and pipes; each must be refused on the board."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random

from attacks.attempt import Attempt, program
from attacks.mutate import bytes_of
from attacks.tally import Place, Tally, until

NAME = "bundles"
_SUMS = "SHA256SUMS"
_SECONDS = 30.0


def attack(place: Place, seconds: float) -> Tally:
    """Change an unpacked bundle and ask ``run.sh --selftest``, with the key that signed it and without.

    What was sealed anew has new checksums, so that only the signature can tell.
    """
    tally, folder, random = Tally(NAME), place.scratch(NAME), Random(place.seed)
    with tarfile.open(place.bundle) as archive:
        archive.extractall(folder, filter="data")
    whole = next(path for path in folder.iterdir() if path.is_dir())
    done = program(["sh", whole / "run.sh", "--trust", place.public_key, "--selftest"], folder)
    if done.code != 0 or "selftest passed" not in done.said:
        tally.fail(f"the bundle as it is: {done.said[-300:]}")
        return tally
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    changes: tuple[Callable[[Random, Path], str], ...] = (
        _bytes,
        _bytes,
        _bytes,
        _remove,
        _add,
        _pipe,
        _link,
        _folder,
        _swap,
    )
    bundle = folder / "changed"
    for number in until(seconds):
        shutil.rmtree(bundle, ignore_errors=True)
        # Links share the bytes; a change replaces the file and so leaves the other.
        shutil.copytree(whole, bundle, copy_function=os.link)
        name = (
            files[number % len(files)]
            if number % 3
            else Path(random.choice((_SUMS, "bundle.conf", "run.sh", "SHA256SUMS.sig")))
        )
        what = f"{random.choice(changes)(random, bundle / name)} {name}"
        sealed = number % 4 == 3 and (bundle / _SUMS).is_file()
        if sealed:
            _seal(bundle)
        key: list[str | Path] = (
            ["--trust", place.public_key] if sealed or number % 2 or name.name.endswith(".sig") else []
        )
        # A changed run.sh is itself what would have to judge, and sh ends with 0 on a folder: the check is asked there.
        if number % 10 == 9 and name.name != "run.sh":
            done = program(["sh", bundle / "run.sh", *key, "--selftest"], folder, seconds=_SECONDS)
            _judge(tally, f"{what} (run.sh)", done)
        else:
            check = whole / "tvmbuild-check"
            _judge(tally, what, program([check, bundle, "--all", *key], folder, seconds=_SECONDS))
    _cut_scripts(tally, whole, folder, place)
    return tally


def _judge(tally: Tally, what: str, done: Attempt) -> None:
    tally.take(what, done)
    if "selftest passed" in done.said:
        tally.fail(f"{what}: said that the selftest passed")


def _cut_scripts(tally: Tally, whole: Path, folder: Path, place: Place) -> None:
    """Cut run.sh behind each of its lines but the first, which is a comment."""
    script = (whole / "run.sh").read_bytes()
    cuts = [at + 1 for at, byte in enumerate(script[:-1]) if byte == ord("\n")][1:]
    cut = whole / "run.sh"
    cut.unlink()
    for at in cuts:
        cut.write_bytes(script[:at])
        _judge(tally, f"run.sh cut at {at}", program(["sh", cut, "--trust", place.public_key, "--selftest"], folder))


def _bytes(random: Random, path: Path) -> str:
    content = path.read_bytes()
    changed = bytes_of(random, content)
    if changed == content:
        changed = content + b"\n"
    mode = path.stat().st_mode
    path.unlink()
    path.write_bytes(changed)
    path.chmod(mode)
    return "changed"


def _remove(_random: Random, path: Path) -> str:
    path.unlink()
    return "removed"


def _add(random: Random, path: Path) -> str:
    other = path.with_name(random.choice(("more.so", "a\nb", "-rf", "\x1b[2J", " ", ".hidden")))
    other.write_bytes(b"more")
    return f"{other.name!r} added beside"


def _pipe(_random: Random, path: Path) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a pipe for"


def _link(random: Random, path: Path) -> str:
    elsewhere = path.parent.parent / "elsewhere"
    # A rename onto another link of the same file would do nothing.
    elsewhere.unlink(missing_ok=True)
    path.rename(elsewhere)
    path.symlink_to(random.choice(("../elsewhere", "/dev/zero", path.name)))
    return "a link for"


def _folder(_random: Random, path: Path) -> str:
    path.unlink()
    path.mkdir()
    return "a folder for"


def _swap(random: Random, path: Path) -> str:
    others = [
        other for other in path.parent.iterdir() if other.is_file() and other != path and not other.samefile(path)
    ]
    other = random.choice(others) if others else path
    content = other.read_bytes() if other.read_bytes() != path.read_bytes() else b"swapped"
    path.unlink()
    path.write_bytes(content)
    return f"{other.name} for"


def _seal(bundle: Path) -> None:
    """Write the checksums anew, as one does who changes a bundle on purpose."""
    lines = []
    for path in sorted(bundle.rglob("*")):
        if (
            path.is_file()
            and not path.is_symlink()
            and path.name not in (_SUMS, f"{_SUMS}.sig")
            and "\n" not in path.name
        ):
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle)}\n")
    (bundle / _SUMS).unlink()
    # A line more, so that the text differs from the one that was signed whatever was changed.
    (bundle / _SUMS).write_text("".join([*lines, f"{'0' * 64}  more\n"]))

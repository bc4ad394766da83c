"""Archives: bundles and exported records with members that leave their folder, lie about their size or cannot be."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attacks.attempt import command
from attacks.mutate import bytes_of
from attacks.tally import Place, Tally, until

NAME = "archives"


def attack(place: Place, seconds: float) -> Tally:
    """Give hostile and damaged archives to inspect, verify and 'records import'; nothing outside may be written."""
    tally, folder, random = Tally(NAME), place.scratch(NAME), Random(place.seed)
    victim = folder / "victim"
    work = folder / "work"
    work.mkdir()
    for name, content in _hostile(victim):
        for ending, arguments in _readers(place):
            path = work / f"x{ending}"
            path.write_bytes(gzip.compress(content, 1) if ending == ".tar.gz" else content)
            tally.take(
                f"{name} to {' '.join(arguments[:2])}",
                command([*arguments, path.name, *_rest(arguments, place)], work, own_cache=True),
            )
            _check_outside(tally, folder, name)
    valid = {".tar.gz": place.bundle.read_bytes(), ".tar": place.artifact.with_suffix(".tar").read_bytes()}
    for number in until(seconds):
        ending = random.choice(list(valid))
        path = work / f"x{ending}"
        path.write_bytes(bytes_of(random, valid[ending]))
        arguments = random.choice([each for end, each in _readers(place) if end == ending])
        # A changed byte of gzip's header, or one of the padding, changes no file.
        done = command([*arguments, path.name, *_rest(arguments, place)], work, own_cache=True)
        tally.take(f"damaged {ending} {number} to {' '.join(arguments[:2])}", done, may_pass=True)
        _check_outside(tally, folder, f"damaged {number}")
    return tally


def _readers(place: Place) -> list[tuple[str, list[str]]]:
    return [
        (".tar.gz", ["inspect"]),
        (".tar.gz", ["verify"]),
        (".tar", ["inspect"]),
        (".tar", ["records", "import"]),
    ]


def _rest(arguments: list[str], place: Place) -> list[str]:
    return ["--signature", str(place.public_key)] if arguments == ["verify"] else []


def _check_outside(tally: Tally, folder: Path, what: str) -> None:
    found = [path.name for path in folder.iterdir() if path.name != "work"]
    found += [str(path) for path in (Path("/tmp/tvmbuild-attack"),) if path.exists()]
    if found:
        tally.wrongly += 1
        tally.fail(f"{what}: wrote {found} outside its folder")
        for name in found:
            (folder / name).unlink(missing_ok=True)


def _member(name: str, content: bytes = b"{}", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    return member, content


def _archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _hostile(victim: Path) -> Iterator[tuple[str, bytes]]:
    """Yield archives that must be refused, with what is wrong with each."""
    plain = [_member("b/board.json"), _member("b/trials.jsonl", b"")]
    for name in (
        str(victim),
        "/tmp/tvmbuild-attack",
        "../victim",
        "b/../../victim",
        "../../victim",
        "b//../../victim",
        ".",
        "..",
        "/",
    ):
        yield f"a member {name[-30:]}", _archive(*plain, _member(name[:100]))
    yield "an absolute folder", _archive(_member(f"{victim}/board.json"[-100:]), _member("/b/board.json"))
    kinds = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}
    for word, kind in kinds.items():
        yield f"a {word}", _archive(*plain, _member("b/x", b"", type=kind, linkname="../../victim"))
        yield (
            f"a {word} and a file behind it",
            _archive(*plain, _member("b/x", b"", type=kind, linkname=str(victim.parent)[-99:]), _member("b/x/victim")),
        )
    yield "a name twice", _archive(*plain, *plain)
    yield "a file above a file", _archive(*plain, _member("b/y"), _member("b/y/z"))
    yield "a folder for a file", _archive(_member("b/board.json", b"", type=tarfile.DIRTYPE))
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        yield "a long name", _archive(*plain, _member("b/" + "x" * 5000), form=form)
        yield "many long parts", _archive(*plain, _member("b/" + "y/" * 3000 + "z"), form=form)
    yield "control characters in a name", _archive(*plain, _member("b/\x1b[2J\nx"))
    yield "20,000 members", _archive(*plain, *(_member(f"b/{number}", b"") for number in range(20_000)))
    yield "a size that is none", _archive(*plain)[:512].replace(b"00000000002\0", b"77777777777\0") + bytes(2048)
    yield "a size below zero", _archive(*plain)[:124] + b"\xff" * 12 + _archive(*plain)[136:]
    yield "nothing", b""
    yield "zeros", bytes(10240)
    yield "no archive", b"x" * 10240
    yield "a cut archive", _archive(*plain, _member("b/z", b"x" * 5000))[:3000]
    # 2 GB of zeros in 2 MB, packed once more where the reader unpacks.
    yield "other bytes behind its end", _archive(*plain) + b"more" * 1000

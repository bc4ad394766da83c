"""Manifests: the .json beside a library, and the text inside a lone .so or .tar."""

from __future__ import annotations

import json
from random import Random

from attacks.attempt import command
from attacks.mutate import DEEP, bytes_of, json_of
from attacks.tally import Place, Tally, until

NAME = "manifests"


def attack(place: Place, seconds: float) -> Tally:
    """Change a manifest and have it read by inspect, bench and verify."""
    tally, folder, random = Tally(NAME), place.scratch(NAME), Random(place.seed)
    side = place.artifact.with_suffix(".json")
    content = json.loads(side.read_text(encoding="utf-8"))
    for text in ("", "[]", "null", "{}", "[" * DEEP, '{"a":' * DEEP, "1" * 100_000, "\ufeff{}"):
        (folder / "x.json").write_text(text, encoding="utf-8")
        tally.take(f"manifest {text[:20]!r}", command(["inspect", "x.json"], folder))
    libraries = {path.name: path.read_bytes() for path in (place.artifact, place.artifact.with_suffix(".tar"))}
    for number in until(seconds):
        if number % 4 == 3:
            name = random.choice(list(libraries))
            (folder / f"lone{name[name.rindex('.') :]}").write_bytes(bytes_of(random, libraries[name]))
            # A byte of the code is nobody's to see: such a library says truly what it is.
            tally.take(
                f"lone {name} {number}", command(["inspect", f"lone{name[name.rindex('.') :]}"], folder), may_pass=True
            )
            continue
        (folder / side.name).write_text(json_of(random, content), encoding="utf-8", errors="surrogatepass")
        for name, library in libraries.items():
            (folder / name).write_bytes(library)
        arguments = random.choice(
            (
                ["inspect", side.name, "-v"],
                ["inspect", side.name, "--json"],
                ["bench", place.artifact.name, "--runs", "1"],
                ["verify", place.artifact.name, "--model", str(place.model)],
            )
        )
        tally.take(f"manifest {number} in {arguments[0]}", command(arguments, folder), may_pass=True)
    return tally

"""What a module tried and what came of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from attacks.attempt import Attempt
from tvmbuild.support.escape import one_line

#: Faults that are told one by one; the others are counted.
_TOLD = 20


@dataclass
class Tally:
    """Counts of one module.

    Attributes:
        name: what was attacked.
        tried: attempts.
        refused: those that ended with an error in plain words.
        accepted: those that were taken, and may be: what they hold means something and does no harm.
        faults: what went wrong, by its description.
        wrongly: attempts that were accepted and must not be.
    """

    name: str
    tried: int = 0
    refused: int = 0
    accepted: int = 0
    wrongly: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, what: str, done: Attempt, *, may_pass: bool = False) -> None:
        """Count an attempt.

        Args:
            what: describes it for people.
            done: what came of it.
            may_pass: whether exit code 0 is right too.
        """
        self.tried += 1
        fault = done.fault()
        if fault:
            self.fail(f"{what}: {fault}")
        elif done.code != 0:
            self.refused += 1
        elif may_pass:
            self.accepted += 1
        else:
            self.wrongly += 1
            self.fail(f"{what}: was accepted")

    def fail(self, what: str) -> None:
        """Note a fault."""
        self.faults.append(what)
        if len(self.faults) <= _TOLD:
            print(f"  {self.name}: {one_line(what)}", flush=True)


@dataclass(frozen=True)
class Place:
    """What all modules attack: made once.

    Attributes:
        folder: for scratch; each module has its own below it.
        model: a small valid ONNX file.
        artifact: the .so of its library for this machine, with its .tar and .json beside it.
        bundle: its bundle, signed.
        public_key: the key that signed it.
        runner: the board's runner and server for this machine.
        seed: of all that is random.
    """

    folder: Path
    model: Path
    artifact: Path
    bundle: Path
    public_key: Path
    runner: Path
    seed: int

    def scratch(self, name: str) -> Path:
        """Return an empty folder of a module."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder


def until(seconds: float) -> Iterator[int]:
    """Count 0, 1, 2, ... until the time is over."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield number
        number += 1

"""Shows that a change of the code changed no library: digests of what is built, before and after.

    python -m devtools.digests build/digests --checkout ../before -o before.json
    python -m devtools.digests build/digests -o after.json --against before.json

Each model is built for each board in each precision that it has, by the checkout named. A digest covers the objects of
the .tar (kernels, bytecode and weights) but for the one that holds the manifest, which may change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import onnx

from devtools.light import LIGHT_MODELS, light_model
from devtools.zoo import load_catalogue

TOP = Path(__file__).resolve().parent.parent
BOARDS = ("rpi3", "rpi4", "rpi5", "host")
#: The object that holds the manifest, in the .tar.
_MANIFEST = "manifest"


@dataclass(frozen=True)
class Case:
    """One library to build.

    Attributes:
        name: model, board and precision.
        model: the ONNX file.
        arguments: of ``tvmbuild build`` beside it.
    """

    name: str
    model: Path
    arguments: tuple[str, ...]


def cases(folder: Path, checkout: Path, only: str) -> Iterator[Case]:
    """Return the cases; models that are not in ``folder`` yet are written there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path, sizes in _models(folder):
        if only and only not in name:
            continue
        integer = _quantized(path, sizes, checkout)
        for board in BOARDS:
            yield Case(f"{name} {board} fp32", path, ("-t", board, *sizes))
            if board == "rpi5":
                yield Case(f"{name} {board} fp16", path, ("-t", board, "--fp16", *sizes))
            if integer is not None:
                yield Case(f"{name} {board} int8", integer, ("-t", board))


def _models(folder: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    for model in load_catalogue().models.values():
        shapes = [text for shape in model.shapes for text in ("--shape", shape)]
        values = [text for value in model.values for text in ("--value", value)]
        yield model.name, TOP / "build" / "models" / f"{model.name}.onnx", (*shapes, *values)
    for name in LIGHT_MODELS:
        path = folder / f"light_{name}.onnx"
        if not path.exists():
            onnx.save(light_model(name), path)
        yield f"light_{name}", path, ()


def _quantized(path: Path, sizes: tuple[str, ...], checkout: Path) -> Path | None:
    """Return the model in int8, or None where it has nothing to quantize."""
    output = path.with_name(f"{path.stem}.digests-int8.onnx")
    failed = output.with_suffix(".failed")
    if not output.exists() and not failed.exists():
        command = ["quantize", str(path), "--calibrate", str(TOP / "build" / "images"), "-o", str(output), *sizes]
        done = _tvmbuild(checkout, *command, "--min-samples", "2")
        if done.returncode:
            failed.write_text(done.stderr, encoding="utf-8")
    return output if output.exists() else None


def _tvmbuild(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tvmbuild", *arguments, "-q"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


def digest(case: Case, checkout: Path) -> str:
    """Build one library and return the digest of its objects, or the last line of the error."""
    with tempfile.TemporaryDirectory(prefix="tvmbuild-digests-") as scratch:
        done = _tvmbuild(checkout, "build", str(case.model), *case.arguments, "-o", scratch, "--name", "model")
        if done.returncode:
            return f"exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
        found = hashlib.sha256()
        with tarfile.open(Path(scratch) / "model.tar") as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                data = archive.extractfile(member)
                if data is not None and _MANIFEST not in member.name:
                    found.update(f"{member.name}\0".encode() + data.read())
        return found.hexdigest()


def main() -> int:
    """Write the digests, compare them, and return 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="keeps the models between runs")
    parser.add_argument("--checkout", type=Path, default=TOP, help="the code that builds")
    parser.add_argument("--only", default="", help="a part of a model's name")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--against", type=Path, help="digests to compare with")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    known = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    todo = [case for case in cases(arguments.folder.resolve(), checkout, arguments.only) if case.name not in known]
    with ThreadPoolExecutor(2) as pool:
        for case, found in zip(todo, pool.map(lambda case: digest(case, checkout), todo), strict=True):
            known[case.name] = found
            arguments.output.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            print(case.name, found[:80], flush=True)
    if arguments.against is None:
        return 0
    before = json.loads(arguments.against.read_text())
    differing = [name for name, found in known.items() if name in before and before[name] != found]
    print(f"{len(known)} libraries, {len(differing)} differ", *differing, sep="\n  ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

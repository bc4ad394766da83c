#!/usr/bin/env python3
"""The README's demo: build a real model for a Raspberry Pi 4 and run it on an emulated one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from devtools.zoo import fetch, load_catalogue, model_file, picture_file
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import require_passed, verify
from tvmbuild.commands.console import Console, size_text
from tvmbuild.device import open_device
from tvmbuild.pipeline import build
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.target.target import load_target

MODEL = "ch_ppocr_mobile_v2.0_cls_infer"
FOLDER = Path("build")


def demo(console: Console) -> None:
    """Fetch, build, run and compare; raises what any of these steps can raise."""
    catalogue = load_catalogue()
    entry = catalogue.models[MODEL]
    fetch(FOLDER, names=[MODEL])
    model, target = model_file(entry, FOLDER), load_target("rpi4")
    pictures = [picture_file(catalogue.pictures[name], FOLDER) for name in entry.samples]
    console.text(f"{model.name}: {entry.about}, for {target.description}")
    with console.stages():
        result = build(model, target, BuildOptions(shape=entry.shapes, value=entry.values, output=Path("dist")))
        artifact = open_artifact(result.folder / f"{result.manifest.name}.json")
        device = open_device("emulated", target)
        inputs = pictures[0] if pictures else None
        outcome = verify(artifact, model, device, VerifyOptions(inputs=inputs, tolerance=entry.tolerance))
    rows = [(str(result.folder / entry.name), size_text(entry.bytes)) for entry in result.manifest.files]
    console.table(("file", "size"), rows)
    for line in result.graph.lines():
        console.text(line)
    for output in outcome.outputs:
        share = f"{output.relative:.1e} of the largest value"
        console.text(f"largest difference from ONNX Runtime: {output.largest:.1e}, {share}")
    require_passed(outcome)
    console.text(f"ran on: {device.describe().description}")
    console.text(f"next: .venv/bin/tvmbuild inspect {artifact.library}")


def main() -> int:
    """Run the demo; expected errors are a message and an exit code."""
    try:
        demo(Console())
    except TvmbuildError as error:
        Console.say(f"error: {error.message}\n  fix: {error.hint}", style="red")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``tvmbuild init``: start a project that builds, verifies and releases a model with make and in CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose


def init(
    model: Annotated[str, typer.Argument(help="The ONNX file, relative to the project.", metavar="MODEL.onnx")],
    target: Annotated[list[str] | None, typer.Option("-t", "--target", help="Board; once each. [rpi4]")] = None,
    shape: Annotated[list[str] | None, typer.Option("--shape", help="Input shape, NAME=1,3,224,224.")] = None,
    value: Annotated[list[str] | None, typer.Option("--value", help="Freeze an input, NAME=16000.")] = None,
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder of the project. [.]")] = Path(),
    source: Annotated[
        str | None,
        typer.Option(
            "--install-from", help="What pip installs tvmbuild from in CI. [where this one came from]", metavar="SOURCE"
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a Makefile, a tvmbuild.toml and CI recipes (GitHub Actions, GitLab); files that are there stay.

    A model that is there already is looked at: open dimensions other than the batch need --shape.

    \b
    Examples:
      tvmbuild init det.onnx -t rpi4 -t rpi5 --shape x=1,3,640,640
      tvmbuild init det.onnx --install-from git+https://example.org/you/tvmbuild@v0.1.0
      make verify && make release
    """
    from tvmbuild.releases.project_files import write_project
    from tvmbuild.support.versions import installed_from

    console = Console(as_json, verbose, quiet)
    source = installed_from() if source is None else source
    written = write_project(folder, model, target or ["rpi4"], shape or [], frozen=value or [], source=source)
    console.result({"written": written, "installs_from": source})
    for path in written:
        console.text(f"wrote {path}")
    if not (folder / model).is_file():
        console.text(f"{model} is not there yet: put it there before the next step,")
        console.text("and the sizes of its open dimensions, but for the batch, into 'shape' in tvmbuild.toml")
    if not source:
        console.text("in CI: say in the recipes what to install tvmbuild from (TVMBUILD_SOURCE, or --install-from)")
    console.text("next: make verify")

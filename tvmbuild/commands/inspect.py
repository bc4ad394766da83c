"""``tvmbuild inspect``: what a model needs, or what an artifact is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmbuild.commands.console import Console, Json, Limit, Quiet, Verbose, size_text

if TYPE_CHECKING:
    from tvmbuild.artifact.manifest import Manifest


def inspect(
    path: Annotated[Path, typer.Argument(help="An ONNX file, the .so, .tar or .json of an artifact, or a bundle.")],
    shape: Annotated[list[str] | None, typer.Option("--shape", help="Input shape, NAME=1,3,224,224.")] = None,
    value: Annotated[list[str] | None, typer.Option("--value", help="Freeze an input, NAME=16000.")] = None,
    target: Annotated[str | None, typer.Option("-t", "--target", help="Board to plan for. [rpi4]")] = None,
    strips: Annotated[
        bool | None, typer.Option("--strips/--no-strips", help="Run chains of layers strip by strip. [strips]")
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show inputs, operators and what will be fused, without compiling; or what an artifact says of itself.

    An open batch dimension is taken as 1; other open dimensions need --shape to see the fusion. A model that cannot be
    built is shown as far as it is known, with the exit code that build would have. Where a flag is missing, [build] in
    tvmbuild.toml counts.

    \b
    Examples:
      tvmbuild inspect det.onnx --shape x=1,3,640,640
      tvmbuild inspect dist/det-rpi4.so
      tvmbuild inspect det.onnx --json | jq .operators
    """
    console = Console(as_json, verbose, quiet)
    from tvmbuild.artifact.open import looks_like_artifact

    if looks_like_artifact(path):
        _show_artifact(console, path)
    else:
        _show_model(console, path, {"target": target, "shape": shape, "value": value, "limit": limit, "strips": strips})


def _show_artifact(console: Console, path: Path) -> None:
    from tvmbuild.artifact.open import open_artifacts

    manifests = [artifact.manifest for artifact in open_artifacts(path)]
    console.result(manifests[0] if len(manifests) == 1 else {"artifacts": manifests})
    for manifest in manifests:
        _show_manifest(console, manifest)


def _show_manifest(console: Console, manifest: Manifest) -> None:
    console.text(f"{manifest.name}: {manifest.model['file']} for {manifest.target.get('description')}")
    for word, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            console.text(f"  {word} {spec}")
    for entry in manifest.files:
        console.text(f"  {entry.name}  {size_text(entry.bytes)}  sha256 {entry.sha256}")
    for item in manifest.fusion["passes"]:
        console.text(f"  {item['applied']} of {item['total']} {item['what']}")
    strips = manifest.fusion.get("strips", {}).get("told")
    if strips:
        console.text(f"  {strips}")
    for kernel in manifest.fusion["kernels"]:
        group = "+".join(kernel["ops"])
        how = f"{kernel['kind']}, {kernel.get('origin') or 'rule'}"
        console.detail(f"  {kernel['mac_share']:6.1%} {kernel['calls']} x {group}: {kernel['workload']} [{how}]")
    weights = manifest.fusion.get("weights", {})
    if weights.get("layers"):
        library, model = (size_text(weights.get(name, 0)) for name in ("bytes", "model_bytes"))
        halves = f"{weights.get('half_layers', 0)} of {weights['layers']} layers as float16"
        console.text(f"  weights {library}, in the model {model}; {halves}")
    memory = manifest.memory
    console.text(f"  planned memory {size_text(memory['arena'])} (naive {size_text(memory['naive'])})")
    console.text(f"  linked with {manifest.toolchain['name']}: {manifest.toolchain['version']}")
    console.text("  " + ", ".join(f"{name} {version}" for name, version in manifest.packages.items()))


def _show_model(console: Console, path: Path, flags: dict[str, Any]) -> None:
    from tvmbuild.support.budget import parse_limits
    from tvmbuild.support.options import InspectOptions
    from tvmbuild.support.resolve import read_project_options, resolve
    from tvmbuild.target.target import load_target

    options = resolve(InspectOptions, flags, project=read_project_options(InspectOptions, "inspect")).options
    board = load_target(options.target)
    with console.stages():
        from tvmbuild.inspection import inspect_model

        found = inspect_model(
            path, options.shape, options.value, board, parse_limits(options.limit), strips=options.strips
        )
    console.text(f"{path}: opset {found.opset}, {sum(found.operators.values())} nodes, sha256 {found.sha256}")
    for word, texts in (("input", found.inputs), ("output", found.outputs)):
        for text in texts:
            console.text(f"  {word} {text}")
    console.text("  operators: " + ", ".join(f"{count} {name}" for name, count in found.operators.items()))
    for note in found.notes:
        console.text(f"  note: {note}")
    for line in found.graph.lines(verbose=console.verbose) if found.graph else ():
        console.text(f"  {line}")
    if found.refusal is not None:
        found.refusal.details["inspection"] = found.to_json()
        raise found.refusal
    console.result(found.to_json())

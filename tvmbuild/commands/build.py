"""``tvmbuild build``: an ONNX model becomes a deployable artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvmbuild.commands.console import Console, Json, Limit, Quiet, Verbose, size_text

if TYPE_CHECKING:
    from tvmbuild.pipeline import BuildResult
    from tvmbuild.support.options import BuildOptions, QuantizeOptions
    from tvmbuild.target.target import Target


def build(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="MODEL.onnx")],
    target: Annotated[str | None, typer.Option("-t", "--target", help="Board: a name or a TOML file. [rpi4]")] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Input shape, NAME=1,3,224,224; once an input.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option("--value", help="Freeze an input to a constant, NAME=16000; once an input.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the artifact. [dist]")] = None,
    name: Annotated[str | None, typer.Option(help="Stem of the files. [<model>-<target>]")] = None,
    toolchain: Annotated[
        str | None, typer.Option(help="'gnu' or 'zig'. [the first of the target's that is installed]")
    ] = None,
    compare: Annotated[
        bool | None, typer.Option("--compare/--no-compare", help="Check the prepared model in ONNX Runtime. [compare]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of that check's inputs. [0]")] = None,
    fp16: Annotated[bool | None, typer.Option("--fp16/--fp32", help="Compute in half precision (rpi5). [fp32]")] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="Quantize to int8 first. Options: 'tvmbuild quantize', [quantize] in the project file."
        ),
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="Weights of float32 layers in the library: fp32, fp16 or auto. [fp32]")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="speed, or size: weights no larger than the model's, as fp16. [speed]")
    ] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Samples for --int8: a folder or file.")] = None,
    images: Annotated[str | None, typer.Option(help="How pictures become inputs, for --int8. [plain]")] = None,
    table: Annotated[Path | None, typer.Option(help="Calibration table for --int8.")] = None,
    force_int8: Annotated[
        bool | None, typer.Option("--force-int8", help="int8 even where it is predicted slower than float, for --int8.")
    ] = None,
    dump_ir: Annotated[Path | None, typer.Option(help="Folder for the module after each phase.")] = None,
    depfile: Annotated[
        bool, typer.Option("-MD", "--depfile", help="Write <name>.d, from which make knows when to build again.")
    ] = False,
    records: Annotated[Path | None, typer.Option(help="Folder of tuning records. [tuning_logs]")] = None,
    use_records: Annotated[
        bool | None, typer.Option("--use-records/--no-records", help="Take schedules from tuning records. [use]")
    ] = None,
    board: Annotated[str | None, typer.Option(help="Board whose records to use, by the start of its name.")] = None,
    strict: Annotated[
        bool | None, typer.Option("--strict/--no-strict", help="Refuse kernels without a fast schedule. [warn]")
    ] = None,
    strips: Annotated[
        bool | None,
        typer.Option(
            "--strips/--no-strips",
            help="Run chains of layers strip by strip; none with --weights fp16 or --prefer size. [strips]",
        ),
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Compile a model for a board.

    Writes <name>.so (ready to load), <name>.tar (objects that TVM links on the board) and <name>.json (the manifest).

    \b
    Examples:
      tvmbuild build mobilenet.onnx -t rpi4
      tvmbuild build det.onnx -t rpi5 --shape x=1,3,640,640 -o build/
      tvmbuild build mobilenet.onnx -t rpi5 --fp16
      tvmbuild build resnet.onnx -t rpi4 --weights auto
      tvmbuild build mobilenet.onnx -t rpi4 --int8 --calibrate photos/ --images imagenet
      tvmbuild build vad.onnx --value sr=16000 --dump-ir /tmp/ir
    """
    from tvmbuild.support.errors import OptionError
    from tvmbuild.support.options import BuildOptions, QuantizeOptions
    from tvmbuild.support.resolve import read_project_file, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    flags = {
        "target": target,
        "shape": shape,
        "value": value,
        "output": output,
        "name": name,
        "toolchain": toolchain,
        "compare": compare,
        "seed": seed,
        "fp16": fp16,
        "int8": int8 or None,
        "weights": weights,
        "prefer": prefer,
        "calibrate": calibrate,
        "dump_ir": dump_ir,
        "records": records,
        "use_records": use_records,
        "board": board,
        "strict": strict,
        "strips": strips,
        "limit": limit,
    }
    resolved = resolve(BuildOptions, flags, project=read_project_file("build"))
    if not resolved.options.precision.quantizes and (calibrate or images or table or force_int8):
        raise OptionError("--calibrate, --images, --table and --force-int8 are for --int8.", "Add --int8.")
    destination = load_target(resolved.options.target)
    console.text(f"building {model} for {destination.name}: {destination.description}")
    for line in resolved.lines():
        console.text(f"  {line}")
    quantization = None
    if resolved.options.precision.quantizes:
        given = {"images": images, "table": table, "force_int8": force_int8}
        quantization = resolve(QuantizeOptions, given, project=read_project_file("quantize")).options
    with console.stages():
        result = _build(model, destination, resolved.options, quantization)
    # Whatever may still fail comes before the result: there is one JSON object, this or the error.
    if depfile:
        _write_depfile(result, model, resolved.options, quantization)
    console.result(result.manifest)
    for line in result.quantized.report.lines(verbose=verbose) if result.quantized else ():
        console.text(f"  {line}")
    for line in result.graph.lines(verbose=verbose):
        console.text(f"  {line}")
    for note in result.notes:
        console.text(f"  note: {note}")
    for entry in result.manifest.files:
        console.text(f"wrote {result.folder / entry.name}  {size_text(entry.bytes)}")
    stem = result.folder / result.manifest.name
    console.text(f"next: tvmbuild verify {stem}.so --model {result.model}")


def _build(model: Path, target: Target, options: BuildOptions, quantization: QuantizeOptions | None) -> BuildResult:
    from tvmbuild import pipeline
    from tvmbuild.releases.built import keep_build
    from tvmbuild.releases.cell import artifact_inputs

    # What is cheap to check comes before the digests, which read samples and records.
    pipeline.check_build(model, target, options)
    named = dataclasses.replace(options, name=pipeline.artifact_name(model, target, options))
    inputs = artifact_inputs(model, target, named, quantization)
    if quantization is not None:
        result = pipeline.build_int8(model, target, options, quantization)
    else:
        result = pipeline.build(model, target, options)
    # A release takes no model that was not compared with the original.
    if options.compare:
        keep_build(inputs, result)
    return result


def _write_depfile(
    result: BuildResult, model: Path, options: BuildOptions, quantization: QuantizeOptions | None
) -> None:
    from tvmbuild.artifact.dependencies import build_dependencies
    from tvmbuild.artifact.depfile import depfile_text
    from tvmbuild.support.atomic.staging import write_whole

    stem = result.folder / result.manifest.name
    outputs = [Path(f"{stem}{ending}") for ending in (".so", ".tar", ".json")]
    inputs = build_dependencies(model, options, quantization)
    write_whole(Path(f"{stem}.d"), depfile_text(outputs, inputs.present, inputs.absent))

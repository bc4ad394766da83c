"""``tvmbuild quantize``: a float model becomes an int8 one in the QDQ form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Limit, Quiet, Verbose, size_text


def quantize(
    model: Annotated[Path, typer.Argument(help="The float ONNX file.", metavar="MODEL.onnx")],
    calibrate: Annotated[
        Path | None, typer.Option(help="Samples: a folder of pictures, .npy, .npz or test_data_set_*; or one file.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write. [<model>.int8.onnx]")] = None,
    shape: Annotated[
        list[str] | None, typer.Option("--shape", help="Input shape, NAME=1,3,224,224; once an input.")
    ] = None,
    value: Annotated[
        list[str] | None, typer.Option("--value", help="Freeze an input to a constant, NAME=16000.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="How pictures become inputs: a preset (imagenet, ...) or a TOML file. [plain]")
    ] = None,
    calibrate_mode: Annotated[
        str | None, typer.Option(help="Ranges: kl_divergence, percentile, mse or max. [kl_divergence]")
    ] = None,
    weight_scale: Annotated[str | None, typer.Option(help="Scales of weights: max or mse. [max]")] = None,
    percentile: Annotated[float | None, typer.Option(help="Percent inside the range, for percentile. [99.99]")] = None,
    symmetric: Annotated[
        bool | None, typer.Option("--symmetric/--asymmetric", help="Zero points of activations are 0. [asymmetric]")
    ] = None,
    power2: Annotated[bool | None, typer.Option("--power2/--any-scale", help="Scales are powers of two.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Calibration table: read if the file is there, else written.")
    ] = None,
    keep_fp32: Annotated[
        list[str] | None, typer.Option("--keep-fp32", help="Layers that stay in float, a pattern such as 'conv_1*'.")
    ] = None,
    for_target: Annotated[
        str | None, typer.Option("--for", help="Board: layers that int8 makes slower there (predicted) stay in float.")
    ] = None,
    force_int8: Annotated[
        bool | None, typer.Option("--force-int8", help="int8 even where it is predicted slower on the board of --for.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Leave as few layers in float as reach this: 'sqnr>=30', 'top1>=0.99', ...")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Measure of the outputs: module:function, or a command. See docs/int8.md.")
    ] = None,
    bias_correction: Annotated[
        bool | None, typer.Option("--bias-correction/--plain-biases", help="Take mean errors out of the biases.")
    ] = None,
    held_out: Annotated[float | None, typer.Option(help="Share of the samples held out to judge. [0.2]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the division of the samples. [0]")] = None,
    min_samples: Annotated[int | None, typer.Option(help="The fewest samples to calibrate with. [8]")] = None,
    report: Annotated[Path | None, typer.Option(help="Write the whole report, as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the SQNR of every tensor (.png, .svg).")] = None,
    limit: Limit = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Quantize a model to int8 by calibration; no retraining.

    Writes a standard QDQ model: it runs in ONNX Runtime, and `tvmbuild build` compiles it to integer kernels.

    \b
    Examples:
      tvmbuild quantize resnet.onnx --calibrate photos/ --images imagenet -o resnet.int8.onnx
      tvmbuild quantize det.onnx --shape x=1,3,640,640 --calibrate pages/ --images paddleocr-det --table det.json
      tvmbuild quantize model.onnx --calibrate data.npy --budget 'sqnr>=25' --report report.json -v
    """
    from tvmbuild.support.options import QuantizeOptions
    from tvmbuild.support.precision import Precision
    from tvmbuild.support.resolve import read_project_options, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    flags = {
        "shape": shape,
        "value": value,
        "images": images,
        "calibrate_mode": calibrate_mode,
        "weight_scale": weight_scale,
        "percentile": percentile,
        "symmetric": symmetric,
        "power2": power2,
        "table": table,
        "keep_fp32": keep_fp32,
        "force_int8": force_int8,
        "budget": budget,
        "metric": metric,
        "bias_correction": bias_correction,
        "held_out": held_out,
        "seed": seed,
        "min_samples": min_samples,
        "limit": limit,
    }
    resolved = resolve(QuantizeOptions, flags, project=read_project_options(QuantizeOptions, "quantize"))
    board = load_target(for_target) if for_target else None
    target = (
        output or model.with_name(f"{model.stem}{Precision.INT8.model_ending}.onnx")
        if model.name
        else Path("int8.onnx")
    )
    for line in resolved.lines():
        console.text(f"  {line}")
    with console.stages():
        from tvmbuild.quantization.quantizer import quantize_model
        from tvmbuild.quantization.report import check_plot
        from tvmbuild.quantization.report import plot as draw
        from tvmbuild.support.atomic.staging import check_writable, write_whole

        for written in filter(None, (target, report)):
            check_writable(written.parent, written.name)
        if plot is not None:
            check_plot(plot, has_samples=calibrate is not None)
        done = quantize_model(model, calibrate, resolved.options, target=board)
        done.save(target)
        if report is not None:
            write_whole(report, json.dumps(done.report.to_json(), indent=2) + "\n")
        if plot is not None:
            draw(done.report, plot)
    console.result({"file": str(target), "bytes": target.stat().st_size, **done.report.to_json()})
    for line in done.report.lines(verbose=verbose):
        console.text(line)
    for path in (target, resolved.options.table, report, plot):
        if path is not None:
            console.text(f"wrote {path}  {size_text(path.stat().st_size)}")
    console.text(f"next: tvmbuild build {target}")

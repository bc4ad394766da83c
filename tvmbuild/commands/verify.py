"""``tvmbuild verify``: compare an artifact with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.bundle import next_on_board
from tvmbuild.commands.console import Board, Console, Json, Key, Limit, Quiet, Tracker, Verbose, size_text


def verify(
    artifact: Annotated[
        Path, typer.Argument(help="The .so, .tar or .json of an artifact, or a bundle.", metavar="ARTIFACT")
    ],
    model: Annotated[Path | None, typer.Option("--model", help="The ONNX file it was built from.")] = None,
    signature: Annotated[
        Path | None, typer.Option("--signature", help="Public key that must have signed it, or its release's folder.")
    ] = None,
    target: Board = "",
    on: Annotated[str | None, typer.Option(help="Device: auto, local, emulated or rpc. [auto]")] = None,
    tracker: Tracker = None,
    key: Key = None,
    inputs: Annotated[
        Path | None, typer.Option(help="Sample inputs: .npz, .npy, an image, or a folder. [random, from the seed]")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Random samples, or the most to take from a folder. [1]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random inputs. [0]")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference over largest value. [fp32 1e-4, fp16 1e-2, integers 0; int8 models by RMS]"
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads on the device. [one a core]")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that one run may take. [600]")] = None,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="On a difference, find the first layer that differs.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write the outcome as JUnit XML, one case an output.")] = None,
    limit: Limit = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run the same inputs through ONNX Runtime and the artifact, and compare every output.

    A difference beyond the tolerance exits with code 15. With --signature the model may be left out.

    \b
    Examples:
      tvmbuild verify dist/det-rpi4.so --model det.onnx
      tvmbuild verify dist/det-rpi4.so --model det.onnx --inputs photos/ --samples 20
      tvmbuild verify dist/det-rpi4.so --model det.onnx --bisect
      tvmbuild verify det-1.0.tar.gz -t rpi5 --model det.onnx
      tvmbuild verify det-rpi4-1.0.tar.gz --signature release.pub
    """
    from tvmbuild.support.options import VerifyOptions
    from tvmbuild.support.resolve import read_project_file, resolve

    console = Console(as_json, verbose, quiet)
    if model is None:
        _only_signature(console, artifact, signature)
        return
    if signature is not None:
        console.text(_check_signature(artifact, signature))
    flags = {
        "on": on,
        "tracker": tracker,
        "key": key,
        "inputs": inputs,
        "samples": samples,
        "seed": seed,
        "tolerance": tolerance,
        "threads": threads,
        "timeout": timeout,
        "limit": limit,
    }
    options = resolve(VerifyOptions, flags, project=read_project_file("verify")).options
    with console.stages():
        from tvmbuild.artifact.open import is_bundle, open_artifact
        from tvmbuild.artifact.relink import with_library
        from tvmbuild.checking.verify import check_same_model, require_passed, target_of
        from tvmbuild.checking.verify import verify as run_verify
        from tvmbuild.device import open_device
        from tvmbuild.support.atomic.staging import check_writable, write_whole

        if junit is not None:
            check_writable(junit.parent, junit.name)
        opened = open_artifact(artifact, target)
        check_same_model(opened, model)
        opened = with_library(opened, target_of(opened))
        device = open_device(options.on, target_of(opened), tracker=options.tracker, key=options.key)
        outcome = run_verify(opened, model, device, options)
        first = None
        if bisect and not outcome.passed:
            from tvmbuild.bisect import first_difference

            first = first_difference(opened, model, device, options)
    report = {**outcome.to_json(), "first_difference": str(first) if first else None}
    rows = (
        (
            o.spec.name,
            f"{o.largest:.2e}",
            f"{o.relative:.2e}",
            f"{o.tolerance:.0e}",
            f"{o.cosine:.8f}",
            "ok" if o.passed else "DIFFERS",
        )
        for o in outcome.outputs
    )
    console.table(("output", "largest diff", "relative", "allowed", "cosine", ""), rows)
    console.text(f"{outcome.samples} sample(s) on {outcome.device}; peak memory {size_text(outcome.peak_bytes)}")
    if first:
        console.text(f"first layer that differs: {first}")
    if junit is not None:
        from tvmbuild.releases.junit import junit_text

        write_whole(junit, junit_text([(opened.manifest.name, outcome.to_json())]))
    require_passed(outcome, details=report)
    console.result(report)
    if is_bundle(artifact):
        next_on_board(console, artifact)
    else:
        console.text(f"next: tvmbuild bundle {artifact}")


def _only_signature(console: Console, artifact: Path, signature: Path | None) -> None:
    from tvmbuild.support.errors import OptionError

    if signature is None:
        raise OptionError("verify needs the model, a public key, or both.", "Give --model or --signature.")
    words = _check_signature(artifact, signature)
    console.result({"signed": True, "artifact": artifact, "key": signature})
    console.text(words)


def _check_signature(artifact: Path, signature: Path) -> str:
    from tvmbuild.releases.trust import check_signed

    return f"signed by the key in {signature}: all {check_signed(artifact, signature)} files are those that were signed"

"""``tvmbuild bundle``: an artifact and all that a bare board needs to run it, in one archive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose, size_text

#: A board as Raspberry Pi OS names it, for people to replace.
_BOARD = "pi@raspberrypi.local"


def bundle(
    artifacts: Annotated[
        list[Path],
        typer.Argument(
            help="The .so, .tar or .json of an artifact; of one model, once a board.", metavar="ARTIFACT..."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the bundle. [the artifact's; several: <model>-<targets>]")] = "",
    version: Annotated[str, typer.Option("--version", help="Version, part of the name. [0]")] = "0",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder. [the artifact's]")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the golden inputs. [0]", min=0, max=2**63 - 1)] = 0,
    model_license: Annotated[Path | None, typer.Option(help="File with the model's licence, to include.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key to sign with ('tvmbuild keys new').")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Pack a model with its runtime, runner, examples, licences and golden inputs for a bare board.

    A bundle for several boards runs the library that suits the core best. On the board, `./run.sh --selftest` checks
    files, CPU, glibc and runtime, and replays the golden inputs.

    \b
    Examples:
      tvmbuild bundle dist/det-rpi4.so --version 1.2.0
      tvmbuild bundle dist/det-rpi4.so --key release.key
      tvmbuild bundle dist/det-rpi3.so dist/det-rpi4.so dist/det-rpi5.so --name det
    """
    from tvmbuild.artifact.epoch import source_date_epoch
    from tvmbuild.artifact.open import open_artifact
    from tvmbuild.artifact.relink import with_library
    from tvmbuild.checking.verify import target_of
    from tvmbuild.releases.bundle import BundleOptions, write_bundle
    from tvmbuild.releases.signing import load_signer
    from tvmbuild.support.errors import OptionError

    console = Console(as_json, verbose, quiet)
    signer = load_signer(key) if key else None
    if model_license is not None and not model_license.is_file():
        raise OptionError(f"The model's licence {model_license} is no file.", "Give a text file.")
    opened = [with_library(one, target_of(one)) for one in map(open_artifact, artifacts)]
    options = BundleOptions(name, version, output or artifacts[0].parent, seed, model_license, source_date_epoch())
    with console.stages():
        archive = write_bundle(opened, options, signer)
    size = archive.stat().st_size
    console.result({"bundle": archive, "bytes": size})
    console.text(f"wrote {archive}  {size_text(size)}")
    next_on_board(console, archive)


def next_on_board(console: Console, bundle: Path) -> None:
    """Say how a bundle, packed or unpacked, comes onto a board and runs there."""
    packed = bundle.is_file()
    folder = bundle.name.removesuffix(".tar.gz")
    console.text(f"next: scp {'' if packed else '-r '}{shlex.quote(str(bundle))} {_BOARD}:")
    unpack = f"tar xzf {shlex.quote(bundle.name)} && " if packed else ""
    console.text(f"then: ssh {_BOARD} {shlex.quote(f'{unpack}cd {shlex.quote(folder)} && ./run.sh --selftest')}")

"""``tvmbuild keys``: the keys that releases are signed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose

keys = typer.Typer(no_args_is_help=True, help="Make the keys that releases are signed with.")


@keys.callback()
def root() -> None:
    """Make the keys that releases are signed with."""


@keys.command()
def new(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for both files. [.]")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write a new Ed25519 key pair: release.key, to be kept secret, and release.pub, to be given to users.

    \b
    Examples:
      tvmbuild keys new -o ~/.config/tvmbuild
      tvmbuild bundle dist/det-rpi4.so --key ~/.config/tvmbuild/release.key
    """
    from tvmbuild.releases.signing import new_keys

    console = Console(as_json, verbose, quiet)
    private, public = new_keys(output or Path())
    console.result({"private": private, "public": public})
    console.text(f"wrote {private}: keep it secret, and keep a copy; who has it can sign as you")
    console.text(f"wrote {public}: give it to those who check your releases")

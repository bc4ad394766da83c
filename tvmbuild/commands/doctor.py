"""``tvmbuild doctor``: is everything here that building, linking and emulating needs?"""

from __future__ import annotations

from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose


def doctor(
    target: Annotated[str | None, typer.Option("-t", "--target", help="Check what this board needs. [rpi4]")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Check the installation and say how to mend what is wrong.

    Exits with code 17 when something that is needed is missing.

    \b
    Examples:
      tvmbuild doctor
      tvmbuild doctor -t rpi5 --json
    """
    from tvmbuild.checking.doctor import require_healthy, run_checks
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    checks = run_checks(load_target(target or "rpi4"))
    for check in checks:
        console.text(f"{check.state.ljust(7)} {check.name}: {check.found}")
        if check.fix:
            console.text(f"        fix: {check.fix}")
    require_healthy(checks)
    console.result([vars(check) for check in checks])

"""``tvmbuild targets``: the boards that can be built for."""

from __future__ import annotations

import dataclasses

from tvmbuild.commands.console import Console, Json, Quiet, Verbose


def targets(as_json: Json = False, verbose: Verbose = False, quiet: Quiet = False) -> None:
    """List the built-in targets.

    \b
    Examples:
      tvmbuild targets
      tvmbuild targets --json | jq '.[].cpu'
    A board of your own is a TOML file given by path: tvmbuild build m.onnx -t ./myboard.toml
    """
    from tvmbuild.target.target import known_targets, load_target

    console = Console(as_json, verbose, quiet)
    loaded = [load_target(name) for name in known_targets()]
    console.result([dataclasses.asdict(target) for target in loaded])
    console.table(
        ("target", "cpu", "cores", "features", "glibc", "description"),
        ((t.name, t.cpu, str(t.cores), " ".join(t.features), t.glibc, t.description) for t in loaded),
    )

"""``tvmbuild device provision``: set a board up over SSH."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Key, Quiet, Tracker, Verbose

#: Seconds between two attempts to bring the tunnel back.
_PAUSE_SECONDS = 5.0


def provision(
    board: Annotated[str, typer.Argument(help="The board, as for ssh: pi@raspberrypi.local.", metavar="BOARD")],
    target: Annotated[str, typer.Option("-t", "--target", help="What the board is.")] = "rpi4",
    tracker: Tracker = None,
    key: Key = None,
    port: Annotated[int, typer.Option(help="Port of the board's server; another one for each board.", min=1)] = 9091,
    tunnel: Annotated[
        bool, typer.Option("--tunnel/--no-tunnel", help="Reach the board through SSH, or open its port to the network.")
    ] = True,
    once: Annotated[bool, typer.Option("--once", help="Do not hold the tunnel; print its command.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Copy the native server to a board, start it there, and hold an SSH tunnel to it until Ctrl-C.

    Needs a 64-bit system and ssh without a password on the board; no root, no Python. The server starts again by itself
    after a reboot, and so does the tunnel.

    \b
    Examples:
      tvmbuild device provision pi@raspberrypi.local -t rpi4
      tvmbuild device provision pi@10.0.0.5 -t rpi5 --port 9092 --once
    """
    from tvmbuild.device.fleet.address import parse_address
    from tvmbuild.device.fleet.provision import Provision
    from tvmbuild.device.fleet.provision import provision as set_up
    from tvmbuild.support.options import DeviceOptions
    from tvmbuild.support.resolve import read_project_file, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    options = resolve(DeviceOptions, {"tracker": tracker, "key": key}, project=read_project_file("device")).options
    loaded = load_target(target)
    request = Provision(board, loaded, options.key or loaded.name, parse_address(options.tracker), port, tunnel)
    with console.stages():
        set_up(request)
    command = request.tunnel_command() if tunnel else []
    console.result({"board": board, "key": request.key, "port": port, "tunnel": command})
    console.text(f"{board} serves the key '{request.key}'. See: tvmbuild device list")
    if not tunnel:
        console.say(f"Port {port} of {board} is open: whoever reaches it runs any code there; see docs/devices.md.")
    elif once:
        console.text(f"The tunnel, which has to run: {shlex.join(command)}")
    else:
        console.text("Holding the SSH tunnel; Ctrl-C ends it.")
        sys.stdout.flush()
        _hold(command)


def _hold(command: list[str]) -> None:
    """Run the tunnel, again and again."""
    while True:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            code = process.wait()
        finally:
            process.terminate()
            process.wait()
        Console.say(f"The tunnel ended with {code}; trying again in {_PAUSE_SECONDS:.0f} s.")
        time.sleep(_PAUSE_SECONDS)

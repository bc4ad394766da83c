"""``tvmbuild tracker``: run TVM's tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose

if TYPE_CHECKING:
    from tvmbuild.device.fleet.address import Address


def tracker(
    host: Annotated[str, typer.Option(help="Address to listen on; any other opens the port to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 9190,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Run TVM's tracker in the foreground, until Ctrl-C.

    Boards register with it and clients ask it for one. It listens on this machine alone unless told otherwise: whoever
    can reach a board's server runs any code there, so boards come through an SSH tunnel (device provision).

    \b
    Examples:
      tvmbuild tracker
      tvmbuild tracker --host 192.168.1.7 --port 9191
    """
    from tvmbuild.device.fleet.address import Address
    from tvmbuild.device.fleet.processes import start, stop, tracker_command, wait_for_tracker
    from tvmbuild.device.fleet.tracker import TrackerClient
    from tvmbuild.support.errors import OptionError, TrackerError

    console = Console(as_json, verbose, quiet)
    address = Address(host, port)
    try:
        with TrackerClient(address):
            raise OptionError(f"A tracker runs at {address} already.", "Use it, or take another --port.")
    except TrackerError:
        process = start(tracker_command(address))
    try:
        wait_for_tracker(address, process)
        console.result({"tracker": str(address), "pid": process.pid})
        for line in _advice(address):
            console.text(line)
        process.wait()
    finally:
        stop(process)
    raise TrackerError(f"The tracker at {address} ended by itself.", "Start it again.")


def _advice(address: Address) -> list[str]:
    lines = [f"TVM's tracker listens on {address}. Add a board:"]
    lines += [
        "  a Pi that you reach by SSH:   tvmbuild device provision pi@raspberrypi.local -t rpi4",
        f"  emulated boards:              tvmbuild device emulate -t rpi4 --tracker {address}",
        f"  what is there:                tvmbuild device list --tracker {address}",
    ]
    if not address.is_loopback:
        lines.insert(1, f"  on a Pi with Python:          tvmbuild device serve --tracker {address} --key rpi4")
        lines.append(f"Whoever can reach {address} can register boards and ask for them; see docs/devices.md.")
    return lines

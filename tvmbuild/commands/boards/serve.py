"""``tvmbuild device serve`` and ``emulate``: offer this machine, or emulated boards, to a tracker."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Key, Quiet, Tracker, Verbose


def serve(
    tracker: Tracker = None,
    key: Annotated[str | None, typer.Option("--key", help="What clients ask for: rpi4.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any other opens this board to the network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on. [first free from 9091]", min=0, max=65535)] = 0,
    python: Annotated[bool, typer.Option("--python", help="Run TVM's own server instead of the native one.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Offer this machine to a tracker, in the foreground, until Ctrl-C.

    The native server needs g++ once, to be compiled. It runs each client in a process and a folder of its own and tells
    clock, temperature and throttling. TVM's own server (--python) needs no compiler and tells nothing.
    Whoever can reach the port runs any code here: it is open to this machine alone unless --host says otherwise.

    \b
    Examples:
      tvmbuild device serve --tracker 192.168.1.7:9190 --key rpi4 --host 192.168.1.20
      tvmbuild device serve --key host
    """
    from tvmbuild.device.fleet.address import is_loopback, parse_address
    from tvmbuild.device.fleet.processes import native_server_command, python_server_command
    from tvmbuild.support.errors import OptionError
    from tvmbuild.support.options import DeviceOptions
    from tvmbuild.support.resolve import read_project_file, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    options = resolve(DeviceOptions, {"tracker": tracker, "key": key}, project=read_project_file("device")).options
    if not options.key:
        raise OptionError("A board needs a key that clients ask for.", "Give --key rpi4, or set TVMBUILD_KEY.")
    address = parse_address(options.tracker)
    if python:
        command = python_server_command(address, options.key, host, port)
    else:
        with console.stages():
            command = native_server_command(load_target("host"), address, options.key, emulated=False, port=port)
        command += ["--host", host]
    if not is_loopback(host):
        console.say(f"Whoever can reach {host} runs any code on this board, without a password; see docs/devices.md.")
    console.result({"tracker": str(address), "key": options.key, "host": host, "native": not python})
    _run(command)


def _run(command: Sequence[str]) -> None:
    """Run a server until it ends or we are told to.

    Raises:
        DeviceError: it ended by itself.
    """
    from tvmbuild.device.fleet.processes import server_environment, stop
    from tvmbuild.support.errors import DeviceError

    sys.stdout.flush()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=server_environment())
    try:
        code = process.wait()
    finally:
        stop(process)
    raise DeviceError(f"The server ended with {code}.", "Its own words are above; run it again with another --port.")


def emulate(
    target: Annotated[str, typer.Option("-t", "--target", help="The board to emulate.")] = "rpi4",
    count: Annotated[int, typer.Option("-n", "--count", help="Number of boards.", min=1, max=64)] = 1,
    tracker: Annotated[str | None, typer.Option(help="HOST:PORT of a tracker. [starts one]")] = None,
    key: Key = None,
    log: Annotated[Path | None, typer.Option(help="File for what the servers print.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Keep emulated boards up behind a tracker, until Ctrl-C.

    They run in QEMU's user mode: results and crashes are those of the board, times mean nothing. A board that dies is
    started again.

    \b
    Examples:
      tvmbuild device emulate -t rpi4 -n 2
      tvmbuild device emulate -t rpi5 --tracker 127.0.0.1:9190
    """
    from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    boards = EmulatedBoards(load_target(target), count, tracker=tracker or "", key=key or "", log=log)
    with console.stages():
        boards.__enter__()
    try:
        console.result({"tracker": boards.tracker, "key": boards.key, "pids": boards.pids})
        sys.stdout.flush()
        console.text(f"{count} emulated {target} as '{boards.key}' behind the tracker {boards.tracker}. Try:")
        console.text(f"  tvmbuild device check -t {target} --tracker {boards.tracker} --key {boards.key}")
        while True:
            time.sleep(3600)
    finally:
        boards.__exit__(None, None, None)

"""``tvmbuild device``: boards behind a tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmbuild.commands.boards import provision as device_provision
from tvmbuild.commands.boards import serve as device_serve
from tvmbuild.commands.console import Console, Json, Key, Quiet, Tracker, Verbose

if TYPE_CHECKING:
    from tvmbuild.device.fleet.tracker import BoardEntry, KeySummary

app = typer.Typer(
    name="device",
    help="List, check, serve, emulate and set up boards behind a tracker.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("serve")(device_serve.serve)
app.command("emulate")(device_serve.emulate)
app.command("provision")(device_provision.provision)


@app.command("list")
def list_boards(
    tracker: Tracker = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """List the boards that a tracker knows, and how they are doing.

    Core, clock, temperature, kernel and runtime are what our native server tells; TVM's own server tells none.

    \b
    Examples:
      tvmbuild device list
      tvmbuild device list --tracker 192.168.1.7:9190 --json
    """
    from tvmbuild.device.fleet.address import parse_address
    from tvmbuild.device.fleet.tracker import TrackerClient
    from tvmbuild.support.options import DeviceOptions
    from tvmbuild.support.resolve import read_project_file, resolve

    console = Console(as_json, verbose, quiet)
    options = resolve(DeviceOptions, {"tracker": tracker}, project=read_project_file("device")).options
    with TrackerClient(parse_address(options.tracker)) as client:
        summary = client.summary()
    known, unreadable = summary.keys, summary.unreadable
    keys = [_key_json(entry) for entry in known]
    console.result({"tracker": options.tracker, "keys": keys, "unreadable": unreadable})
    if unreadable:
        console.say(f"{unreadable} entries at the tracker name no key or no address; nobody can use them.")
    if not known:
        console.text(
            f"The tracker {options.tracker} knows no boards; add one with 'tvmbuild device serve' or 'provision'."
        )
        return
    header = ("key", "board", "state", "core", "clock", "temperature", "kernel", "runtime")
    console.table(header, (_row(entry, board) for entry in known for board in entry.boards))
    for entry in known:
        console.text(f"{entry.key}: {entry.free} free, {entry.busy} busy, {entry.waiting} waiting")


def _row(entry: KeySummary, board: BoardEntry) -> tuple[str, ...]:
    told, doing = board.fingerprint, board.health
    temperature = doing.get("temperature_c")
    core = f"{told.get('core', '?')}{' (emulated)' if told.get('emulated') else ''}"
    return (
        entry.key,
        board.address,
        _state(entry, board),
        core,
        f"{doing['mhz']} MHz" if "mhz" in doing else "?",
        f"{temperature} C" if temperature is not None else "?",
        str(told.get("kernel", "?")),
        f"tvm {told['tvm']}" if "tvm" in told else "?",
    )


def _state(entry: KeySummary, board: BoardEntry) -> str:
    if board.session:
        return f"busy ({board.session.get('user') or board.session.get('peer', '?')})"
    silent = [other for other in entry.boards if not other.session]
    # The tracker only counts: which of the boards that do not tell are free cannot be known.
    return "free" if entry.free >= len(silent) else "busy" if entry.free == 0 else "?"


def _key_json(entry: KeySummary) -> dict[str, Any]:
    boards = [
        {
            "address": board.address,
            "state": _state(entry, board).partition(" ")[0],
            "fingerprint": board.fingerprint,
            "health": board.health,
            "session": board.session,
        }
        for board in entry.boards
    ]
    return {"key": entry.key, "free": entry.free, "busy": entry.busy, "waiting": entry.waiting, "boards": boards}


@app.command("check")
def check(
    target: Annotated[str, typer.Option("-t", "--target", help="What the board should be.")] = "rpi4",
    tracker: Tracker = None,
    key: Key = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Send a small library to a free board, run and time it, and say what would spoil measurements.

    A problem exits with code 17.

    \b
    Examples:
      tvmbuild device check -t rpi4
      tvmbuild device check -t rpi5 --tracker 192.168.1.7:9190 --key rpi5-desk
    """
    from tvmbuild.device.fleet.check import check_board
    from tvmbuild.support.errors import CheckFailedError
    from tvmbuild.support.options import DeviceOptions
    from tvmbuild.support.resolve import read_project_file, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    options = resolve(DeviceOptions, {"tracker": tracker, "key": key}, project=read_project_file("device")).options
    with console.stages():
        outcome = check_board(options.tracker, options.key or target, load_target(target))
    report = {"board": outcome.board, "passed": outcome.passed, "findings": outcome.findings}
    report |= {"fingerprint": outcome.fingerprint, "health": outcome.health, "seconds": outcome.seconds}
    console.text(f"board {outcome.board}: {outcome.fingerprint.get('core', 'unknown core')}")
    for finding in outcome.findings:
        console.text(f"  {finding.level + ':':<9}{finding.text}")
        if finding.fix:
            console.text(f"           fix: {finding.fix}")
    if not outcome.passed:
        found = [finding for finding in outcome.findings if finding.level == "problem"]
        raise CheckFailedError(f"The board has {len(found)} problem(s): {found[0].text}.", found[0].fix, report)
    console.result(report)

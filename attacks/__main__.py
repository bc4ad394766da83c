"""Run all attacks, print what came of them, and write the table into docs/security.md."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from attacks import archives, bundles, manifests, models, ports, records, settings
from attacks.attempt import MEMORY, SECONDS, command, warm_up
from attacks.tally import Place, Tally
from benchmarks import page
from tvmbuild.support.escape import markdown_text

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "security.md"
MARKERS = ("<!-- attack: start; written by `make attack`, do not edit -->", "<!-- attack: end -->")
#: What is attacked, by how, and for how many seconds; with what is always tried under
#: fifteen minutes in all.
ATTACKS: tuple[tuple[str, Callable[[Place, float], Tally], float], ...] = (
    ("bundles", bundles.attack, 90),
    ("archives", archives.attack, 60),
    ("records", records.attack, 45),
    ("journals", records.attack_journals, 45),
    ("toml", settings.attack, 60),
    ("manifests", manifests.attack, 60),
    ("server", ports.attack_server, 75),
    ("tracker", ports.attack_tracker, 60),
    ("models", models.attack, 30),
)
_HEAD = ("attacked", "attempts", "refused", "accepted, rightly", "accepted, wrongly", "faults")


def main() -> int:
    """Attack, tell, write; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m attacks", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the time that each attack takes")
    parser.add_argument(
        "--only", nargs="*", default=[], choices=[name for name, _, _ in ATTACKS], help="leave out the others"
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is random")
    parser.add_argument("--no-page", action="store_true", help="leave docs/security.md as it is")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tvmbuild-attack-"))
    started = time.monotonic()
    try:
        place = _prepare(folder, given.seed)
        tallies = []
        for name, attack, seconds in ATTACKS:
            if not given.only or name in given.only:
                begun = time.monotonic()
                tallies.append(attack(place, seconds * given.share))
                print(f"{' | '.join(_row(tallies[-1]))}  {time.monotonic() - begun:.0f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - started) / 60
    if not given.no_page and not given.only:
        page.write(PAGE, _render(tallies, given.seed, minutes), MARKERS)
    faults = sum(len(tally.faults) for tally in tallies)
    print(f"{sum(tally.tried for tally in tallies)} attempts in {minutes:.1f} minutes, {faults} faults")
    return 1 if faults else 0


def _prepare(folder: Path, seed: int) -> Place:
    """Make a model, its library for this machine and a signed bundle, by tvmbuild's own commands."""
    import onnx
    from onnx import TensorProto, helper

    from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
    from tvmbuild.target.target import load_target

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    # The cache of the real user has the board's programs, which take a while to compile.
    runner = runner_folder(load_target("host")) / RUNNER_NAME
    for arguments in (
        ["keys", "new", "-o", "keys"],
        ["build", "net.onnx", "-t", "host", "-o", "dist", "-q"],
        ["bundle", "dist/net-host.so", "--version", "1.0", "--key", "keys/release.key", "-q"],
    ):
        done = command(arguments, folder, seconds=600.0)
        if done.code != 0:
            raise SystemExit(f"'tvmbuild {' '.join(arguments)}' failed: {done.said}")
    dist = folder / "dist"
    for arguments in (
        ["inspect", str(dist / "net-host.so")],
        ["inspect", str(dist / "net-host-1.0.tar.gz")],
        ["verify", str(dist / "net-host.so"), "--signature", "absent"],
        ["records", "list", "--records", str(folder)],
        ["records", "import", str(dist / "net-host.tar"), "--records", str(folder / "none")],
        ["records", "merge", str(folder)],
        ["device", "list", "--tracker", "127.0.0.1:1"],
        ["quantize", "absent.onnx", "--calibrate", str(folder)],
        ["release", "--project", str(folder)],
    ):
        warm_up(arguments)
    return Place(
        folder / "scratch",
        folder / "net.onnx",
        dist / "net-host.so",
        dist / "net-host-1.0.tar.gz",
        folder / "keys" / "release.pub",
        runner,
        seed,
    )


def _row(tally: Tally) -> list[str]:
    counts = (tally.tried, tally.refused, tally.accepted, tally.wrongly, len(tally.faults))
    return [tally.name, *(f"{count:,}" for count in counts)]


def _render(tallies: Sequence[Tally], seed: int, minutes: float) -> str:
    """Return the part of the page: what the figures were made with, the table, and what went wrong."""
    from tvmbuild.support.versions import package_versions

    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    day = datetime.now(timezone.utc).date().isoformat()
    parts = [
        f"Made by `make attack` on {day} in {minutes:.0f} minutes, seed {seed}, with Python "
        f"{'.'.join(map(str, sys.version_info[:3]))}, {versions}.",
        page.table(_HEAD, [_row(tally) for tally in tallies]),
        f"A fault is a command that ran for over {SECONDS:.0f} s (a bomb: {models.BOMB_SECONDS:.0f} s, with "
        f"`--limit seconds={models.BOMB_LIMIT}`) or took over "
        f"{MEMORY >> 30} GiB, a traceback, a bug, a control character on the terminal, a file outside its folder, an "
        "honest client that was not served, or anything accepted wrongly.",
    ]
    faults = [f"{tally.name}: {fault}" for tally in tallies for fault in tally.faults]
    if faults:
        shown = (f"- {markdown_text(fault[:200])}" for fault in faults[:20])
        parts.append("\n".join([f"{len(faults)} faults, the first of them:", "", *shown]))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())

"""Renders results into docs/performance.md, each section between markers; the rest of the page is written by people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.store import Result

#: Sections that ``make bench-kernels`` writes, and the part whose results each shows.
SECTIONS = {
    "boards": "boards",
    "predicted": "predicted",
    "host": "host",
    "build": "build",
    "kernels": "predicted",
}


def markers_of(section: str) -> tuple[str, str]:
    """Return what a section stands between."""
    name = f"bench-kernels {section}"
    return f"<!-- {name}: start; written by `make bench-kernels`, do not edit -->", f"<!-- {name}: end -->"


#: Kernels listed per model; the others are added up.
LISTED = 15


def insert(page: str, body: str, markers: tuple[str, str]) -> str:
    """Return the page with what is between the markers replaced; they are appended when it has none."""
    start, end = markers
    if start not in page or end not in page:
        page = f"{page.rstrip()}\n\n{start}\n{end}\n"
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n\n{body.strip()}\n\n{end}{after}"


def write(path: Path, body: str, markers: tuple[str, str]) -> None:
    """Put the body into the page, aside and then in place."""
    page = path.read_text(encoding="utf-8") if path.is_file() else "# Performance\n"
    aside = path.with_suffix(".partial")
    aside.write_text(insert(page, body, markers), encoding="utf-8")
    aside.replace(path)


def render(section: str, results: Mapping[str, Result], limits: Mapping[str, Any], machine: str) -> str:
    """Return a section's text.

    Args:
        section: a name of ``SECTIONS``.
        results: of its part: of ``predicted.predict_model`` by "model-target-precision" ("predicted" and "boards"), of
            ``host.time_model`` by model, or of ``building.measure_build`` by "model-target".
        limits: the content of limits.toml.
        machine: what the figures were made on, in a line.
    """
    title, *parts = {
        "boards": lambda: boards_section(results, limits["boards"]),
        "predicted": lambda: predicted_section(results, limits),
        "host": lambda: host_section(results, limits["host"]),
        "build": lambda: build_section(results, limits["build"]),
        "kernels": lambda: kernels_section(results, limits["hot_loop"]["share"]),
    }[section]()
    return "\n\n".join([title, made_with(results.values(), machine), *parts])


def kernels_section(predicted: Mapping[str, Result], share: float) -> list[str]:
    """Return the parts of the page on each kernel of the predicted models."""
    parts = ["## Kernel by kernel (predicted)", KERNEL_NOTE]
    for name, result in predicted.items():
        if "kernels" in result:
            parts += [f"### {name}", kernel_table(result), hot_loops(result["kernels"], share)]
    return parts


def made_with(results: Iterable[Result], machine: str, command: str = "make bench-kernels") -> str:
    """Say by which versions, on which machine and with which command the figures were made."""
    versions: dict[str, str] = {}
    for result in results:
        versions |= result.get("versions", {})
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Made by `{command}` on {machine}, with {listed or 'nothing yet'}."


BOARDS_NOTE = """\
One inference, batch 1, 224 by 224, on a Raspberry Pi 4 (four Cortex-A72 at 1.8 GHz) and 5 (four Cortex-A76 at 2.4
GHz). ncnn's milliseconds are those that it published (in fp16 on the Pi 5); its traffic and all of tvmbuild's figures
are **predicted, not timed** ([predict.md](predict.md) says how far they may be off; in brackets what a board is
expected to take). Traffic is what is read from memory and written back to it with four threads. "before" is tvmbuild
of {before}, by the same prediction. The limits in milliseconds were reckoned with another model, from
0.29 of the computing and 17 cycles a line (1.1 and 11.5 for one thread); "restated" gives what the same computing and
the same traffic take by today's."""


def boards_section(results: Mapping[str, Result], limits: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page on all cores of a board, beside what others need."""
    traffic, shared, alone = [], [], []
    for row in limits["rows"]:
        result = results.get("-".join((row["model"], row["target"], row["precision"])), {})
        said = f"failed: {result['failed']}" if "failed" in result else "not measured"
        by_threads = result.get("by_threads", {})
        four, one = by_threads.get(str(limits["threads"])), by_threads.get("1")
        name = (f"{row['model']} {row['precision']}", row["target"])
        moved = four["read_mb"] + four["written_mb"] if four else None
        text = f"**{moved:.0f}** ({four['read_mb']:.0f} + {four['written_mb']:.0f})" if four else said
        traffic.append([*name, *_beside(row, "mb", text, moved, ("must", "aim"))])
        judges = ("must", "restated", "aim")
        shared.append([*name, *_beside(row, "ms", _time(four) or said, four and four["ms"], judges)])
        alone.append([*name, *_beside(row, "one_ms", _time(one) or said, one and one["ms"], judges[:-1])])
    head = ["model", "board", "ncnn", "before", "now", "must"]
    return [
        "## On all cores of a board (predicted)",
        BOARDS_NOTE.format(before=limits["before"]),
        "Megabytes moved (read + written):",
        table([*head, "aim"], traffic),
        f"Milliseconds, {limits['threads']} threads:",
        table([*head, "must, restated", "aim"], shared),
        "Milliseconds, one thread:",
        table([*head, "must, restated"], alone),
    ]


def _beside(row: Mapping[str, Any], figure: str, text: str, value: float | None, names: Sequence[str]) -> list[str]:
    others = [f"{row[side][figure]:g}" if figure in row[side] else "-" for side in ("ncnn", "before")]
    limits = (row.get(name, {}).get(figure) for name in names)
    return [*others, text, *("-" if limit is None else judged(value, limit) for limit in limits)]


def _time(totals: Result | None) -> str:
    if not totals:
        return ""
    band = f" ({totals['band'][0]:.0f} to {totals['band'][1]:.0f})" if totals["band"] else ""
    return f"**{totals['ms']:.1f}**{band}"


PREDICTED_NOTE = """\
Millions of cycles (and of instructions) of one inference, one thread, batch 1. **Predicted, not timed**: instructions
are counted in QEMU, cycles are priced by llvm-mca's model of the core; see [predict.md](predict.md) for how far to
trust them. "est" adds the lines that are moved, "comp" is computing alone. The peers were measured in November 2026
({peers}); a dash is a figure that was not measured. Their "est" is of the model of that time, which took
the larger of computing and misses and no lines written back: by it tvmbuild's were {then}."""


def predicted_section(predicted: Mapping[str, Result], limits: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page on predicted cycles."""
    peers = list(limits["peer_versions"])
    head = ["model", "core", "judged by", *peers, "tvmbuild", "must", "aim"]
    rows = []
    for row in limits["rows"]:
        result = predicted.get("-".join((row["model"], row["target"], row["precision"])), {})
        own = result.get(row["measure"])
        rows.append(
            [
                f"{row['model']} {row['precision']}",
                row["target"],
                row["measure"],
                *(_peer(row, peer) for peer in peers),
                _own(result, own),
                judged(own, row["must"]),
                judged(own, row["aim"]),
            ]
        )
    versions = ", ".join(f"{name} {version}" for name, version in limits["peer_versions"].items())
    detail = [
        [
            name,
            *(f"{result[key]:.1f}" for key in ("instructions", "comp", "est")),
            f"{result['l1_misses'] / 1e6:.2f}",
            f"{result['l2_misses'] / 1e6:.2f}",
            *_both(result["by_threads"].values()),
            f"{result['memory']['arena'] / 1e6:.1f} MB",
        ]
        for name, result in predicted.items()
        if "est" in result
    ]
    totals = ["model", "Minstructions", "comp Mcycles", "est Mcycles", "M misses of L1", "of L2"]
    totals += ["ms, one thread", "one a core", "DRAM MB, one thread", "one a core", "arena"]
    return [
        "## On a board's core (predicted)",
        PREDICTED_NOTE.format(peers=versions, then=limits["est_then"]),
        table(head, rows),
        table(totals, detail),
    ]


def _both(predictions: Iterable[Result]) -> list[str]:
    """Return the cells of time and traffic, of one thread and of one a core."""
    known = list(predictions)
    times = [f"{one['ms']:.1f}" for one in known]
    return [*times, *(f"{one['read_mb']:.1f} + {one['written_mb']:.1f}" for one in known)]


def _peer(row: Mapping[str, Any], peer: str) -> str:
    cycles, instructions = row["peers"].get(peer), row["peers_instructions"].get(peer)
    if cycles is None:
        return "-"
    return f"{cycles:g} ({instructions:g})" if instructions is not None else f"{cycles:g}"


def _own(result: Result, value: float | None) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    return "not measured" if value is None else f"**{value:.1f}** ({result['instructions']:.1f})"


def judged(value: float | None, limit: float, unit: str = "") -> str:
    """Return a limit and whether a value, where there is one, keeps it."""
    return f"<= {limit:g}{unit}" + ("" if value is None else " met" if value <= limit else " **not met**")


HOST_NOTE = """\
Milliseconds of one inference on this machine, {threads} threads, batch 1, measured: the best of {runs} runs. ONNX
Runtime runs in the same session, in turn with tvmbuild in {rounds} rounds, with its defaults. Each round of either is
a process of its own: after a run ONNX Runtime's threads wait in a busy loop, which on few cores would take time from
whoever is measured next, and turning that off would change what is measured. Ratios are ONNX Runtime's time over
tvmbuild's: above 1, tvmbuild is faster. The best runs are compared because other load disturbs them least: without a
free core for each thread, both programs' threads wait for each other, and medians swing by large factors from one
session to the next (load average before these runs: {least_load:.1f} to {most_load:.1f} on {cores} cores). Peak
memory is that of the process; ONNX Runtime's without what Python held before it had the model."""


def host_section(host: Mapping[str, Result], limits: Mapping[str, float]) -> list[str]:
    """Return the parts of the page on time on this machine."""
    timed = {name: result for name, result in host.items() if "best_ratio" in result}
    head = ["model", "tvmbuild", "ONNX Runtime", "ratio", "ratio of medians", "peak MB", "ONNX Runtime's"]
    parts = ["## On this machine (measured)", table(head, [_host_row(*item) for item in host.items()])]
    if not timed:
        return parts
    some, loads = next(iter(timed.values())), [result["load_before"] for result in timed.values()]
    note = HOST_NOTE.format(**some, least_load=min(loads), most_load=max(loads))
    return [parts[0], note, parts[1], _host_summary(timed, limits)]


def _host_row(name: str, result: Result) -> list[str]:
    if "failed" in result:
        return [name, f"failed: {result['failed']}", *[""] * 5]
    times = [f"{result[key]:.2f}" for key in ("own_best_ms", "other_best_ms")]
    peaks = [f"{result[key]:.0f}" for key in ("own_peak_mb", "other_peak_mb")]
    return [name, *times, f"**{result['best_ratio']:.2f}**", f"{result['ratio']:.2f}", *peaks]


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive values."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _host_summary(timed: Mapping[str, Result], limits: Mapping[str, float]) -> str:
    ratios = {name: result["best_ratio"] for name, result in timed.items()}
    medians = geometric_mean([result["ratio"] for result in timed.values()])
    mean, least = geometric_mean(list(ratios.values())), min(ratios, key=lambda name: ratios[name])

    def met(value: float, limit: float) -> str:
        return f">= {limit:g} " + ("met" if value >= limit else "**not met**")

    return (
        f"Geometric mean of {len(ratios)} models: **{mean:.2f}** (must {met(mean, limits['geometric_mean_must'])}, "
        f"aim {met(mean, limits['geometric_mean_aim'])}); of medians {medians:.2f}. "
        f"Least: **{ratios[least]:.2f}**, {least} (must {met(ratios[least], limits['least_must'])})."
    )


def build_section(building: Mapping[str, Result], limits: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page on building."""
    rows = []
    for name, result in building.items():
        limit = limits.get(name.rpartition("-")[0], {})
        if "seconds" not in result:
            rows.append([name, f"failed: {result['failed']}", "", "", ""])
            continue
        peak = result["peak_mb"]
        rows.append(
            [
                name,
                f"{result['seconds']:.1f}",
                f"{result['cpu_seconds']:.1f}",
                f"{peak:.0f}",
                ", ".join(
                    text
                    for text in (
                        judged(result["seconds"], limit["seconds"], " s") if "seconds" in limit else "",
                        judged(peak, limit["peak_mb"], " MB") if "peak_mb" in limit else "",
                    )
                    if text
                ),
            ]
        )
    head = ["model-target", "seconds", "processor seconds", "peak MB", "must"]
    return ["## Building", "`tvmbuild build` as a process of its own, measured on this machine.", table(head, rows)]


KERNEL_NOTE = """\
Of all calls of a kernel together, in millions. "bound" is the cycles that its multiply-adds (as the operator is
defined) take at the core's best rate; Winograd needs fewer, and so can stay below it. "of bound" and "spills" are the
hot loop's: the share of its cycles that its multiply-add instructions need at the core's best rate, and the
accumulators that it keeps on the stack."""


def kernel_table(result: Result, limit: int | None = LISTED) -> str:
    """Return the table of one model's kernels, costliest first."""
    kernels = result["kernels"]
    head = ["kernel", "schedule", "calls", "MACs", "bound", "comp", "est", "share", "of bound", "spills"]
    total = sum(kernel["est"] for kernel in kernels)
    rows = []
    for kernel in kernels[:limit]:
        loop = kernel["hot_loop"]
        rows.append(
            [
                kernel["workload"] or kernel["name"],
                kernel["kind"] or "-",
                str(kernel["calls"]),
                *(f"{kernel[key]:.2f}" for key in ("macs", "bound", "comp", "est")),
                f"{kernel['est'] / total:.1%}",
                f"{loop['bound_share']:.0%}" if loop and loop["multiply_adds"] else "-",
                str(loop["spills"]) if loop else "-",
            ]
        )
    rest = kernels[len(rows) :]
    if rest:
        sums = {key: sum(kernel[key] for kernel in rest) for key in ("macs", "bound", "comp", "est")}
        shown = [f"{value:.2f}" for value in sums.values()]
        rows.append([f"{len(rest)} others", "", "", *shown, f"{sums['est'] / total:.1%}", "", ""])
    return table(head, rows)


def hot_loops(kernels: Sequence[Result], least: float) -> str:
    """Say how near the hot loops of a model's convolutions come to the bound, and which miss ``least`` of it."""
    loops = [(kernel["hot_loop"], kernel["workload"]) for kernel in kernels if kernel["kind"].startswith("conv2d")]
    loops = [(loop, workload) for loop, workload in loops if loop]
    if not loops:
        return "No hot loop of a convolution was found."
    spilled = [workload for loop, workload in loops if loop["spills"]]
    slow = [f"{workload} ({loop['bound_share']:.0%})" for loop, workload in loops if loop["bound_share"] < least]
    return (
        f"Hot loops of {len(loops)} convolutions: {len(loops) - len(slow)} reach {least:.0%} of the bound"
        f"{', all but ' + '; '.join(slow) if slow else ''}; "
        f"{'spills in ' + '; '.join(spilled) if spilled else 'no spills'}."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

"""The comparison for people: a table for a terminal of 80 columns, the tables of docs/predict.md, and a plot."""

from __future__ import annotations

import importlib.util
import textwrap
from collections.abc import Sequence
from pathlib import Path

from benchmarks.truth.compare import Comparison, Row
from tvmbuild.support.errors import OutputError, ToolchainError
from tvmbuild.target.target import load_target, predicted_core

_FORMATS = (".svg", ".png", ".pdf")


def text(found: Sequence[Comparison]) -> list[str]:
    """Return the lines for a terminal."""
    lines: list[str] = []
    for one, four in _pairs(found):
        board = one.board
        lines += [f"{board.title}, {board.mhz} MHz; ncnn {board.wheel}, times of {board.date}"]
        lines += textwrap.wrap(board.remark, 78, initial_indent="  ", subsequent_indent="  ")
        lines += [f"{'milliseconds':<20}{'1 thread':>29}{'4 threads':>29}"]
        head = f"{'publ.':>8}{'pred.':>8}{'ratio':>6}{'DRAM':>6}"
        lines += [f"{'net':<20}{head} {head}"]
        for row, shared in zip(one.rows, four.rows, strict=True):
            lines.append(f"{row.net:<20}{_columns(row)} {_columns(shared)}")
        lines += [f"{_count(one)}; {_verdict(one)}", f"{_count(four)}; {_verdict(four)}", ""]
    lines += [
        "ratio: predicted over published. DRAM: share of the prediction that lines from",
        "and to memory take. rms: of log(ratio). Left out: each net, or half of the nets,",
        "predicted with constants that were fitted to the others.",
    ]
    return lines


def _pairs(found: Sequence[Comparison]) -> list[tuple[Comparison, Comparison]]:
    return [(one, four) for one, four in zip(found[::2], found[1::2], strict=True)]


def _columns(row: Row) -> str:
    return f"{row.published:8.1f}{row.predicted:8.1f}{row.ratio:6.2f}{row.memory_share:6.0%}"


def _count(one: Comparison) -> str:
    return f"{one.threads} thread{'s' if one.threads > 1 else ''}, {len(one.rows)} nets"


def _verdict(one: Comparison) -> str:
    best = ", ".join(f"{name} {value:.1f}" for name, value in one.best.items())
    return (
        f"geometric mean {one.geometric_mean:.2f}, rms {one.spread:.3f}, ranks {one.rank:.3f}\n"
        f"  left out: one {one.leave_one_out:.3f}, half {one.held_out:.3f}\n  best fit: {best}"
    )


def markdown(found: Sequence[Comparison]) -> str:
    """Return the tables of docs/predict.md."""
    return "\n\n".join([_charges(found), _summary(found), _nets(found), _sources(found)])


def _charges(found: Sequence[Comparison]) -> str:
    """Return the table of what is charged, from the table of cores."""
    cores = dict.fromkeys(predicted_core(load_target(one.board.target)) for one in found)
    lines = [
        "| core, MHz | computing | `sadalp` | line of L2 | of L3 | of memory, one thread | several | launch, us |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for core in cores:
        costs = core.costs
        charged = (
            costs.compute_factor, costs.pairwise_add, costs.l2_line, costs.l3_line, costs.memory_line, costs.bus_line,
            costs.launch_us,
        )  # fmt: skip
        lines.append(f"| {core.name}, {costs.mhz} | {' | '.join(f'{value:g}' for value in charged)} |")
    return "\n".join(lines)


def _summary(found: Sequence[Comparison]) -> str:
    head = "| board | threads | nets | geometric mean | rms error | ranks | one left out | half left out |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {one.board.title} | {one.threads} | {len(one.rows)} | {one.geometric_mean:.2f} | {one.spread:.3f} | "
        f"{one.rank:.3f} | {one.leave_one_out:.3f} | {one.held_out:.3f} |"
        for one in found
    ]
    return "\n".join(lines)


def _nets(found: Sequence[Comparison]) -> str:
    nets = sorted({row.net for one in found for row in one.rows})
    by_net = [{row.net: row for row in one.rows} for one in found]
    head = " | ".join(f"{one.name}, {one.threads}" for one in found)
    lines = [f"| ms published (predicted / published) | {head} |", f"| --- |{' ---: |' * len(found)}"]
    for net in nets:
        cells = [f"{rows[net].published:.1f} ({rows[net].ratio:.2f})" if net in rows else "" for rows in by_net]
        lines.append(f"| {net} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sources(found: Sequence[Comparison]) -> str:
    return "\n".join(
        f"- {one.board.title}: [{one.board.date}]({one.board.source}), `{one.board.command}`, against ncnn "
        f"{one.board.wheel}. {one.board.remark}"
        for one, _ in _pairs(found)
    )


def check_plot(output: Path) -> None:
    """Refuse early what ``draw`` could not do.

    Raises:
        ToolchainError: matplotlib is not installed.
        OutputError: the ending is not known.
    """
    if output.suffix not in _FORMATS:
        raise OutputError(f"{output} has no ending of {', '.join(_FORMATS)}.", "Name the file truth.svg.")
    if importlib.util.find_spec("matplotlib") is None:
        raise ToolchainError("matplotlib, which draws, is missing.", "pip install 'tvmbuild[plot]'")


def draw(found: Sequence[Comparison], output: Path) -> None:
    """Draw predicted over published times into a file; its ending says the format.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    pairs = _pairs(found)
    figure = Figure(figsize=(4 * len(pairs), 4), layout="constrained")
    for axes, pair in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        times = [time for one in pair for row in one.rows for time in (row.published, row.predicted)]
        ends = min(times) / 1.2, max(times) * 1.2
        axes.plot(ends, ends, color="grey", linewidth=0.8)
        for one, marker in zip(pair, "o^", strict=True):
            published, predicted = zip(*((row.published, row.predicted) for row in one.rows), strict=True)
            label = f"{one.threads} thread{'s' if one.threads > 1 else ''}, rms {one.spread:.3f}"
            axes.plot(published, predicted, marker, markersize=4, alpha=0.7, label=label)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, title=pair[0].board.title)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="published, ms", ylabel="predicted, ms")
        axes.legend(loc="upper left")
    try:
        figure.savefig(output)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}.", "Name another file.") from error

"""What a quantization did and how good it is, for people, for programs and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tvmbuild.quantization.budget import BudgetResult
from tvmbuild.quantization.judge import Accuracy
from tvmbuild.support.atomic.staging import check_writable
from tvmbuild.support.errors import OptionError
from tvmbuild.support.escape import plot_text

_SHOWN = 8


@dataclass(frozen=True)
class QuantizationReport:
    """What a quantization did.

    Attributes:
        model: name of the float model's file.
        layers: names of the layers in int8.
        kept: layers in float by name, with the reason of each.
        notes: what is odd about activations and weights.
        mode: how the ranges of activations were found.
        samples: number of samples that calibrated.
        accuracy: on the held-out samples; None when there were no samples.
        search: the search for layers to leave in float; None without a budget.
        speed: that int8 does not pay on the board that the model is for, or "".
    """

    model: str
    layers: tuple[str, ...]
    kept: Mapping[str, str]
    notes: tuple[str, ...]
    mode: str
    samples: int
    accuracy: Accuracy | None
    search: BudgetResult | None = None
    speed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def lines(self, *, verbose: bool = False) -> list[str]:
        """Return the report as lines of text, the whole of it with ``verbose``."""
        total = len(self.layers) + len(self.kept)
        lines = [f"{len(self.layers)} of {total} layers in int8, ranges by {self.mode} from {self.samples} samples"]
        lines += [f"  {name} stays in float: {reason}" for name, reason in _some(list(self.kept.items()), verbose)]
        lines += [f"  {self.speed}"] if self.speed else []
        lines += [f"  note: {note}" for note in _some(list(self.notes), verbose)]
        if self.search is not None:
            lines += self._search_lines(verbose)
        if self.accuracy is not None:
            lines += self._accuracy_lines(self.accuracy, verbose)
        return lines

    def _search_lines(self, verbose: bool) -> list[str]:
        assert self.search is not None
        lines = [
            f"  search: {trial.kept} layers in float give {trial.value:g}{'' if trial.met else ', not enough'}"
            for trial in self.search.trials
        ]
        ranked = list(self.search.sensitivity.items())
        return lines + [f"  alone in int8: {name} {value:.1f} dB" for name, value in _some(ranked, verbose)]

    def _accuracy_lines(self, accuracy: Accuracy, verbose: bool) -> list[str]:
        kind = "held-out samples" if accuracy.held_out else "samples that also calibrated (too few to hold any out)"
        lines = [f"against the float model on {accuracy.samples} {kind}:"]
        for each in accuracy.outputs:
            top1 = f", top-1 agrees in {each.top1:.1%}" if each.top1 is not None else ""
            lines.append(f"  output '{each.name}': SQNR {each.sqnr:.1f} dB, cosine {each.cosine:.6f}{top1}")
        if accuracy.metric is not None:
            lines.append(f"  metric: {accuracy.metric[1]:g}, float {accuracy.metric[0]:g}")
        worst = _some(list(accuracy.tensors), verbose)
        return lines + [f"  worst: '{each.name}' {each.sqnr:.1f} dB, cosine {each.cosine:.6f}" for each in worst]


def _some(items: list[Any], verbose: bool) -> list[Any]:
    return items if verbose else items[:_SHOWN]


def check_plot(path: Path, *, has_samples: bool) -> None:
    """Check, before there is a report, that it can be drawn.

    Raises:
        OptionError: matplotlib is not installed or cannot write such a file, or there will be nothing to draw.
        OutputError: the folder cannot be written.
    """
    if not has_samples:
        raise OptionError("There is no accuracy to plot.", "Give samples with --calibrate DIR.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError("--plot needs matplotlib.", "pip install 'tvmbuild[plot]'") from error
    if path.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        raise OptionError(f"--plot {path} has no ending of a picture.", "Write .png, .svg or .pdf.")
    check_writable(path.parent, path.name)


def plot(report: QuantizationReport, path: Path) -> None:
    """Draw the SQNR of every tensor in the model's order into a picture (.png, .svg, .pdf).

    Raises:
        OptionError: matplotlib is not installed, or there is nothing to draw.
    """
    check_plot(path, has_samples=report.accuracy is not None)
    assert report.accuracy is not None
    from matplotlib.figure import Figure

    tensors = report.accuracy.tensors
    figure = Figure(figsize=(8, max(3.0, 0.18 * len(tensors) + 1)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([plot_text(each.name) for each in reversed(tensors)], [each.sqnr for each in reversed(tensors)])
    axes.set_xlabel("SQNR against float, dB")
    axes.set_title(f"{plot_text(report.model)}: int8 activations, the worst on top")
    axes.tick_params(axis="y", labelsize=6)
    axes.margins(y=0.01)
    figure.savefig(path)

"""Tables of predictions: data for whoever prints them. Each table says that its figures are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvmbuild.predict.kernels import KernelPrediction
from tvmbuild.predict.predictor import Prediction

_MILLION = 1e6
_COSTS = ("kernel", "Minstructions", "predicted Mcycles", "with lines", "share", "DRAM MB read", "written")
#: Of one thread: a kernel's costs and its hot loop.
COLUMNS = (*_COSTS, "hot loop: instructions", "cycles", "multiply-adds", "of bound", "spills")
#: Of several threads: its costs and how it is shared out.
SHARED_COLUMNS = (*_COSTS, "parallel loops", "speed-up")


@dataclass(frozen=True)
class PredictionTable:
    """A prediction as text.

    Attributes:
        title: totals and what they were made with, in one line.
        columns: headings.
        rows: one a kernel, costliest first, and the sum of those left out; as many cells as columns.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def prediction_table(prediction: Prediction, limit: int | None = None) -> PredictionTable:
    """Return the table of a prediction's kernels.

    Args:
        prediction: what to show.
        limit: kernels to list; the others are added up in a last row. None lists all.
    """
    shown = prediction.kernels[:limit]
    rest = prediction.kernels[len(shown) :]
    detail, columns = (_hot_loop, COLUMNS) if prediction.threads == 1 else (_sharing, SHARED_COLUMNS)
    rows = [(kernel.name, *_costs([kernel]), *detail([kernel])) for kernel in shown]
    if rest:
        rows.append((f"{len(rest)} others", *_costs(rest), *detail(rest)))
    return PredictionTable(_title(prediction), columns, tuple(rows))


def _title(prediction: Prediction) -> str:
    time = "" if prediction.milliseconds is None else f" = {prediction.milliseconds:.2f} ms"
    if prediction.band is not None:
        time += f", likely {prediction.band[0]:.1f} to {prediction.band[1]:.1f} ms"
    threads = "one thread" if prediction.threads == 1 else f"{prediction.threads} threads"
    return (
        f"Predicted (not timed), {prediction.target}, {prediction.core}, {threads}, LLVM {prediction.llvm_version}: "
        f"{prediction.instructions / _MILLION:.2f} Minstructions, "
        f"{prediction.compute_cycles / _MILLION:.2f} Mcycles of computing, "
        f"{prediction.estimated_cycles / _MILLION:.2f} Mcycles{time} ({_traffic(prediction)})"
        + (f"; costs: {prediction.source}" if prediction.source else "")
    )


def _traffic(prediction: Prediction) -> str:
    if prediction.read_bytes is None or prediction.written_bytes is None:
        return "caches not modelled"
    read, written = prediction.read_bytes / _MILLION, prediction.written_bytes / _MILLION
    return f"with {read:.1f} MB read from memory and {written:.1f} MB written"


def _sharing(kernels: Sequence[KernelPrediction]) -> tuple[str, ...]:
    """Return how one kernel is shared out; of several only their parallel loops."""
    loops = sum(kernel.sharing.launches for kernel in kernels)
    return str(loops), f"{kernels[0].sharing.speedup:.2f}" if len(kernels) == 1 else ""


def _hot_loop(kernels: Sequence[KernelPrediction]) -> tuple[str, ...]:
    """Return the hot loop of one kernel; nothing of several."""
    loop = kernels[0].hot_loop if len(kernels) == 1 else None
    if loop is None:
        return ("", "", "", "", "")
    return (
        f"{loop.instructions:.0f}",
        f"{loop.cycles:.1f}",
        f"{loop.multiply_adds:.0f}",
        f"{loop.bound_share:.0%}" if loop.multiply_adds else "",
        str(loop.spills),
    )


def _costs(kernels: Sequence[KernelPrediction]) -> tuple[str, ...]:
    return (
        f"{sum(kernel.instructions for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.compute_cycles for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.estimated_cycles for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.share for kernel in kernels):.1%}",
        f"{sum(kernel.read_bytes for kernel in kernels) / _MILLION:.2f}",
        f"{sum(kernel.written_bytes for kernel in kernels) / _MILLION:.2f}",
    )


def prediction_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return predictions of one model as JSON's types; the first key says that they are predicted.

    The first prediction's keys stand at the top; all of them are under "by_threads".
    """
    by_threads = {str(one.threads): asdict(one) for one in predictions}
    return {"predicted": True, **asdict(predictions[0]), "by_threads": by_threads}

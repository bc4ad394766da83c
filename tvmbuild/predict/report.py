"""Tables of predictions: data for whoever prints them. Each table says that its figures are predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tvmbuild.predict.kernels import KernelPrediction
from tvmbuild.predict.predictor import Prediction

_MILLION = 1e6
COLUMNS = (
    "kernel",
    "Minstructions",
    "predicted Mcycles",
    "with misses",
    "share",
    "hot loop: instructions",
    "cycles",
    "multiply-adds",
    "of bound",
    "spills",
)


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
    rows = [_row(kernel) for kernel in shown]
    rest = prediction.kernels[len(shown) :]
    if rest:
        rows.append(_rest_row(rest))
    return PredictionTable(_title(prediction), COLUMNS, tuple(rows))


def _title(prediction: Prediction) -> str:
    time = "" if prediction.milliseconds is None else f" = {prediction.milliseconds:.2f} ms"
    misses = "with cache misses" if prediction.l1_misses is not None else "caches not modelled"
    return (
        f"Predicted (not timed), {prediction.target}, {prediction.core}, one thread, LLVM {prediction.llvm_version}: "
        f"{prediction.instructions / _MILLION:.2f} Minstructions, "
        f"{prediction.compute_cycles / _MILLION:.2f} Mcycles of computing, "
        f"{prediction.estimated_cycles / _MILLION:.2f} Mcycles{time} ({misses})"
    )


def _row(kernel: KernelPrediction) -> tuple[str, ...]:
    loop = kernel.hot_loop
    return (
        kernel.name,
        *_costs([kernel]),
        *(
            ("", "", "", "", "")
            if loop is None
            else (
                f"{loop.instructions:.0f}",
                f"{loop.cycles:.1f}",
                f"{loop.multiply_adds:.0f}",
                f"{loop.bound_share:.0%}" if loop.multiply_adds else "",
                str(loop.spills),
            )
        ),
    )


def _rest_row(kernels: Sequence[KernelPrediction]) -> tuple[str, ...]:
    return (f"{len(kernels)} others", *_costs(kernels), "", "", "", "", "")


def _costs(kernels: Sequence[KernelPrediction]) -> tuple[str, ...]:
    return (
        f"{sum(kernel.instructions for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.compute_cycles for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.estimated_cycles for kernel in kernels) / _MILLION:.3f}",
        f"{sum(kernel.share for kernel in kernels):.1%}",
    )


def prediction_json(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON's types; the first key says that it is predicted."""
    return {"predicted": True, **asdict(prediction)}

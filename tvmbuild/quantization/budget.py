"""The accuracy that a quantized model must have, and the search for the fewest layers to leave in float.

Layers are ordered by what each does to the outputs when it alone is quantized, worst first. The shortest prefix of that
order that meets the budget when it stays in float is found by bisection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvmbuild.support.errors import AccuracyError, OptionError

MEASURES = ("sqnr", "cosine", "top1", "metric", "metric-loss")
_FORM = "Write 'sqnr>=30' (dB, the worst output), 'cosine>=0.999', 'top1>=0.99', 'metric>=0.7' or 'metric-loss<=0.01'."


@dataclass(frozen=True)
class Budget:
    """A bound on a measure of the whole model: "sqnr" >= 30, or "metric-loss" <= 0.01."""

    measure: str
    at_least: bool
    bound: float

    def met(self, value: float) -> bool:
        """Whether a value is good enough."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{self.measure}{'>=' if self.at_least else '<='}{self.bound:g}"


@dataclass(frozen=True)
class BudgetStep:
    """One step of the search: how many of the most sensitive layers stayed in float, and what came of it."""

    kept: int
    value: float
    met: bool


@dataclass(frozen=True)
class BudgetResult:
    """The result of a search.

    Attributes:
        keep: names of the layers to leave in float, most sensitive first.
        sensitivity: by layer's name, the worst output's SQNR in dB when that layer alone is quantized, worst first.
        trials: every set that was tried, in order.
    """

    keep: tuple[str, ...]
    sensitivity: dict[str, float]
    trials: tuple[BudgetStep, ...]


def parse_budget(text: str) -> Budget:
    """Parse a budget.

    Raises:
        OptionError: another form.
    """
    match = re.fullmatch(r"\s*([a-z0-9-]+)\s*(>=|<=)\s*([0-9.eE+-]+)\s*", text)
    try:
        bound = float(match[3]) if match else 0.0
    except ValueError:
        match = None
    if match is None or match[1] not in MEASURES or (match[2] == "<=") != (match[1] == "metric-loss"):
        raise OptionError(f"The budget {text!r} has another form.", _FORM)
    return Budget(match[1], match[2] == ">=", bound)


def search(
    budget: Budget,
    layers: Sequence[str],
    sensitivity: Callable[[str], float],
    evaluate: Callable[[Sequence[str]], float],
) -> BudgetResult:
    """Find the fewest layers to leave in float.

    Args:
        budget: what to reach.
        layers: names of those that may be quantized.
        sensitivity: SQNR of the worst output, in dB, with one layer quantized.
        evaluate: the budget's measure with the given layers in float.

    Raises:
        AccuracyError: the budget is missed with any layer quantized.
    """
    trials: list[BudgetStep] = []
    value = evaluate(())
    trials.append(BudgetStep(0, value, budget.met(value)))
    if trials[0].met:
        return BudgetResult((), {}, tuple(trials))
    measured = {name: sensitivity(name) for name in layers}
    order = sorted(layers, key=lambda name: (measured[name], name))
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        value = evaluate(order[:middle])
        trials.append(BudgetStep(middle, value, budget.met(value)))
        low, high = (low, middle) if trials[-1].met else (middle, high)
    if high == len(order):
        value = evaluate(order)
        trials.append(BudgetStep(high, value, budget.met(value)))
        if not trials[-1].met:
            raise AccuracyError(
                f"The budget {budget} is missed even with every layer in float: {value:g}.",
                "Ask for less, or give samples with labels that fit.",
            )
        raise AccuracyError(
            f"The budget {budget} is met only with every layer in float.",
            "Ask for less, or build the float model as it is.",
        )
    ranked = {name: measured[name] for name in order}
    return BudgetResult(tuple(order[:high]), ranked, tuple(trials))

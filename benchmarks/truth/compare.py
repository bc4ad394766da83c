"""Predicted beside published times: how far apart they are, and how much that depends on the nets that were fitted to.

The prediction is the project's own (``predict/costs.py``) with the constants of ``target/cores.py``. Errors are
logarithms of predicted over published time: 0.1 is 10 % too slow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.truth.counted import THREADS, BoardCounts, NetCounts
from benchmarks.truth.published import Published
from tvmbuild.predict.costs import one_thread_cycles, shared_cycles
from tvmbuild.target.cores import Core, Costs
from tvmbuild.target.target import load_target, predicted_core

#: The constants that were fitted, by core and threads; see ``Costs``. All others were set before.
FITTED: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "cortex-a53": {1: ("memory_line",), 4: ("bus_line", "launch_us")},
    "cortex-a72": {1: ("l2_line", "memory_line"), 4: ("bus_line", "launch_us")},
    "cortex-a76": {1: ("compute_factor", "l3_line", "memory_line"), 4: ("bus_line", "launch_us")},
}
#: Random halves of the nets that constants are fitted to, to predict the other half.
_SPLITS = 100
_STEPS = 50

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A net: milliseconds, and the share of the prediction that moving lines from and to memory takes."""

    net: str
    published: float
    predicted: float
    memory_share: float

    @property
    def ratio(self) -> float:
        """Predicted over published."""
        return self.predicted / self.published


@dataclass(frozen=True)
class Comparison:
    """A board on some threads.

    Attributes:
        board: what was published.
        name: of the board.
        threads: of the times.
        rows: of the nets, by name.
        geometric_mean: of predicted over published.
        spread: root of the mean square of the errors.
        rank: rank correlation (Spearman) of predicted and published.
        leave_one_out: as ``spread``, each net predicted with the constants that fit the others best.
        held_out: the same of half of the nets, with the constants that fit the other half; over 100 random halves.
        best: the values that fit all nets best, by constant; none where nothing was fitted.
    """

    board: Published
    name: str
    threads: int
    rows: tuple[Row, ...]
    geometric_mean: float
    spread: float
    rank: float
    leave_one_out: float
    held_out: float
    best: dict[str, float]


def compare_all(published: dict[str, Published], counts: dict[str, BoardCounts]) -> tuple[Comparison, ...]:
    """Compare every board that was counted, on each number of threads in turn."""
    return tuple(
        compare(name, board, counts[board.counts], threads, predicted_core(load_target(board.target)))
        for name, board in published.items()
        if board.counts in counts and counts[board.counts].whole()
        for threads in THREADS
    )


def compare(name: str, board: Published, counts: BoardCounts, threads: int, core: Core) -> Comparison:
    """Compare the nets of a board that were counted and published, as predicted by what a core's row charges."""
    costs, fitted = core.costs, FITTED[core.llvm_cpu][threads]
    times = board.milliseconds(threads)
    nets = {net: counts.nets[str(threads)][net] for net in counts.whole() if net in times}
    case = _Case(tuple(nets.values()), threads, board.mhz)
    published = np.array([times[net] for net in nets])
    predicted = case.milliseconds(costs)
    shares = 1 - case.milliseconds(replace(costs, memory_line=0, bus_line=0)) / predicted
    errors = np.log(predicted / published)
    fit = _Fit.of(case, costs, fitted, published)
    everything = np.arange(len(nets))
    return Comparison(
        board=board,
        name=name,
        threads=threads,
        rows=tuple(Row(net, *map(float, row)) for net, *row in zip(nets, published, predicted, shares, strict=True)),
        geometric_mean=float(np.exp(errors.mean())),
        spread=_rms(errors),
        rank=float(np.corrcoef(_ranks(published), _ranks(predicted))[0, 1]),
        leave_one_out=fit.error([(np.delete(everything, one), everything[one : one + 1]) for one in everything]),
        held_out=fit.error(_halves(len(nets))),
        best=dict(zip(fitted, map(float, fit.solve(everything)), strict=True)),
    )


@dataclass(frozen=True)
class _Case:
    nets: tuple[NetCounts, ...]
    threads: int
    mhz: float

    def milliseconds(self, costs: Costs) -> Vector:
        """Predict each net."""
        return np.array([self._cycles(net, costs) for net in self.nets]) / (1000 * self.mhz)

    def _cycles(self, net: NetCounts, costs: Costs) -> float:
        if self.threads == 1:
            return one_thread_cycles(net.counts, costs, self.mhz)
        return shared_cycles(net.counts, costs, speedup=net.speedup, launches=net.launches, mhz=self.mhz)


@dataclass(frozen=True)
class _Fit:
    """A prediction as base + columns @ constants: every constant that is fitted enters it linearly."""

    base: Vector
    columns: Vector
    published: Vector

    @staticmethod
    def of(case: _Case, costs: Costs, fitted: Sequence[str], published: Vector) -> _Fit:
        nothing: dict[str, Any] = dict.fromkeys(fitted, 0.0)
        base = case.milliseconds(replace(costs, **nothing))
        columns = [case.milliseconds(replace(costs, **{**nothing, name: 1.0})) - base for name in fitted]
        return _Fit(base, np.stack(columns, axis=1), published)

    def solve(self, nets: NDArray[np.int64]) -> Vector:
        """Return the constants, none below 0, with the least squares of errors over some nets (Gauss-Newton)."""
        columns, base, published = self.columns[nets], self.base[nets], self.published[nets]
        # Start from the least squares of the times, each over what was published.
        found = np.linalg.lstsq(columns / published[:, None], 1 - base / published, rcond=None)[0].clip(0)
        for _ in range(_STEPS):
            predicted = base + columns @ found
            step = np.linalg.lstsq(columns / predicted[:, None], -np.log(predicted / published), rcond=None)[0]
            found = (found + step).clip(0)
        return np.asarray(found)

    def error(self, splits: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> float:
        """Return the root of the mean square error of nets (second) by constants fitted to others (first)."""
        errors = [
            np.log((self.base[held] + self.columns[held] @ self.solve(fitted)) / self.published[held])
            for fitted, held in splits
        ]
        return _rms(np.concatenate(errors))


def _halves(count: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    generator = np.random.default_rng(0)
    orders = [generator.permutation(count) for _ in range(_SPLITS)]
    return [(order[::2], order[1::2]) for order in orders]


def _rms(errors: Vector) -> float:
    return math.sqrt(float(np.mean(np.square(errors))))


def _ranks(values: Vector) -> Vector:
    return np.argsort(np.argsort(values)).astype(np.float64)

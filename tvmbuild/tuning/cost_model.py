"""Ranks candidates that nobody measured yet: MetaSchedule's features and its XGBoost model.

The features are those of Ansor (Zheng et al., OSDI 2020, section 5.2): one vector for each statement that stores, read
off the loops. XGBoost learns to order them by speed from what was measured so far.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from tvmbuild.records.database import scheduled
from tvmbuild.records.workload import workload_module
from tvmbuild.target.target import Target
from tvmbuild.tuning.task import Candidate, Task

#: Trials before the model is trusted; until then candidates are drawn at random.
WARMUP = 24
_INTRINSICS = "tvm.s_tir.tensor_intrin"


class CostModel(Protocol):
    """What the search needs of a model."""

    def learn(self, task: Task, candidates: Sequence[Candidate], seconds: Sequence[float]) -> None:
        """Take note of measured candidates."""

    def score(self, task: Task, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Return one number for each candidate, the higher the better."""


class XgboostModel:
    """MetaSchedule's ``XGBModel`` over the candidates of all tasks."""

    def __init__(self, target: Target, seed: int) -> None:
        """Create an empty model (imports xgboost on first use)."""
        from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig, XGBModel

        self._target = target
        config = XGBConfig(seed=seed, nthread=1)
        self._model = XGBModel(config=config, num_warmup_samples=WARMUP, verbose_eval=0)
        self._learned = 0
        self._contexts: dict[str, Any] = {}
        self._candidates: dict[tuple[str, Candidate], Any] = {}

    def learn(self, task: Task, candidates: Sequence[Candidate], seconds: Sequence[float]) -> None:
        """Train with measured candidates; see ``CostModel.learn``."""
        from tvm.s_tir.meta_schedule.runner import RunnerResult

        if candidates:
            self._learned += len(candidates)
            results = [RunnerResult([float(second)], None) for second in seconds]
            self._model.update(self._context(task), self._measured(task, candidates), results)

    def score(self, task: Task, candidates: Sequence[Candidate]) -> Sequence[float]:
        """Rank candidates; see ``CostModel.score``."""
        if self._learned < WARMUP:
            # MetaSchedule's model would draw numbers that no seed repeats.
            return [0.0] * len(candidates)
        scores = self._model.predict(self._context(task), self._measured(task, candidates))
        return [float(score) for score in np.asarray(scores)]

    def _context(self, task: Task) -> Any:
        from tvm.s_tir.meta_schedule import TuneContext

        if task.workload not in self._contexts:
            with without_intrinsics():
                self._contexts[task.workload] = TuneContext(
                    workload_module(task.variants[0].func), target=self._target.to_tvm(), num_threads=1
                )
        return self._contexts[task.workload]

    def _measured(self, task: Task, candidates: Sequence[Candidate]) -> list[Any]:
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo
        from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate

        made = []
        for candidate in candidates:
            key = task.workload, candidate
            if key not in self._candidates:
                func = task.variants[candidate.variant].func
                schedule = scheduled(func, self._target, task.choice(candidate))
                self._candidates[key] = MeasureCandidate(schedule, ArgInfo.from_prim_func(func))
            made.append(self._candidates[key])
        return made


@contextmanager
def without_intrinsics() -> Iterator[None]:
    """Let ``TuneContext`` skip its import of every GPU's intrinsics: it takes 21 s, and no schedule here uses them."""
    if _INTRINSICS in sys.modules:
        yield
        return
    sys.modules[_INTRINSICS] = ModuleType(_INTRINSICS)
    try:
        yield
    finally:
        del sys.modules[_INTRINSICS]

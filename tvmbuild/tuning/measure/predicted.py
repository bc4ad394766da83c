"""Measures with no board: cycles from QEMU's counts and LLVM's model of the core (see ``tvmbuild.predict``)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tvmbuild.predict.costs import one_thread_cycles, total
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.predictor import ProfiledRun, run_profiled
from tvmbuild.predict.pricing import PriceCache, price_profile
from tvmbuild.records.fingerprint import predicted_board
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.support.errors import DeviceError, TargetError, TvmbuildError
from tvmbuild.target.target import Target, predicted_core
from tvmbuild.tuning.measure.causes import cause_of
from tvmbuild.tuning.measure.protocol import Run

#: Longest that the emulated run of one kernel may take, in seconds.
RUN_SECONDS = 120.0


class PredictedMeasurer:
    """Predicts; the figure does not depend on what else this machine does, so candidates run side by side."""

    batched = False

    def __init__(self, target: Target, slots: int | None = None) -> None:
        """Find the tools.

        Raises:
            TargetError: there is no model of the core, or its clock is not known.
            ToolchainError: QEMU or LLVM is missing.
        """
        if not target.max_mhz:
            raise TargetError(f"{target.name} names no max_mhz, so cycles are no time.", "Add it to the target file.")
        self._target = target
        self._core = predicted_core(target)
        self._tools = find_llvm()
        self._prices = PriceCache()
        self.board = predicted_board(target, self._core, self._tools.version)
        self.slots = slots or len(os.sched_getaffinity(0))

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        """Predict each run by itself."""
        return [self._predict(run) for run in runs]

    def close(self) -> None:
        """Nothing is held."""

    def _predict(self, run: Run) -> Measurement | Failure:
        try:
            # Inside a model other kernels ran since: this one's weights and inputs are not in the caches any more.
            counted = ProfiledRun(run.library, self._target, tuple(run.inputs), 1, True, RUN_SECONDS, cold=True)
            profile, result = run_profiled(counted)
            blocks = price_profile(profile, self._core, self._tools, self._prices)
        except DeviceError as error:
            return Failure(cause_of(error), error.message)
        except TvmbuildError as error:
            return Failure("lost", error.message)
        priced = sum(block.block.executed for block in blocks)
        scale = profile.instructions / priced if priced else 0.0
        counts = total(block.counts for block in blocks)
        compute = scale * counts.compute_cycles
        estimated = scale * one_thread_cycles(counts, self._core.costs, self._target.max_mhz)
        readings = {"instructions": float(profile.instructions), "comp": round(compute), "est": round(estimated)}
        return Measurement((estimated / (self._target.max_mhz * 1e6),), result.outputs[0], readings)

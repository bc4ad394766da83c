"""Measures on this machine: each candidate in a process of its own, in turn with the others and with the default."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvmbuild.device.fleet.health import is_slowed, local_health, readings_of
from tvmbuild.device.local import LocalDevice
from tvmbuild.device.protocol import RunRequest
from tvmbuild.records.fingerprint import local_board
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.support.errors import DeviceError, TvmbuildError
from tvmbuild.target.target import Target
from tvmbuild.tuning.measure.causes import cause_of
from tvmbuild.tuning.measure.protocol import Run

#: The runs of a candidate are spread over this many rounds, so that all meet the same drift of the machine's speed.
ROUNDS = 5
#: Seconds of one candidate's runs in a round, at least, and how many runs that may be.
_ROUND_SECONDS = 0.02
_MOST_RUNS = 200
#: How often a batch is measured while the machine is throttled, and seconds of cooling before it is done again.
ATTEMPTS, COOLING_SECONDS = 3, 20.0
#: Longest that the runs of one round may take, in seconds.
RUN_SECONDS = 60.0


@dataclass
class _State:
    """What is known of one candidate while a batch is measured."""

    run: Run
    repeat: int = 0
    medians: list[float] = field(default_factory=list)
    output: Any = None
    failure: Failure | None = None


class LocalMeasurer:
    """Times on this machine. Nothing else may run meanwhile, so batches are compiled before."""

    batched = True
    slots = 1

    def __init__(
        self,
        target: Target,
        threads: int | None = None,
        *,
        health: Callable[[], Mapping[str, Any]] = local_health,
        cooling: float = COOLING_SECONDS,
    ) -> None:
        """Prepare the runner.

        Args:
            target: this machine.
            threads: of the runtime; None for one a core.
            health: says how the machine is doing.
            cooling: seconds to wait before what was throttled is measured again.

        Raises:
            DeviceError: this machine cannot run the target's code.
        """
        self._device = LocalDevice(target)
        self._health, self._cooling = health, cooling
        self._threads = threads or target.cores
        self.board = local_board(target)

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        """Time a batch: one median for each round and candidate; again after cooling while the machine is throttled."""
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(self._cooling)
            before = self._health()
            states = self._rounds(runs)
            after = self._health()
            if not is_slowed(before, after):
                readings = readings_of(before, after)
                return [state.failure or Measurement(tuple(state.medians), state.output, readings) for state in states]
        slow = Failure("throttled", "this machine runs slower than it can (heat or voltage)")
        return [state.failure or slow for state in states]

    def _rounds(self, runs: Sequence[Run]) -> list[_State]:
        states = [_State(run) for run in runs]
        for _ in range(ROUNDS):
            for state in states:
                if state.failure is None:
                    self._round(state)
        return states

    def close(self) -> None:
        """Nothing is held."""

    def _round(self, state: _State) -> None:
        try:
            if not state.repeat:
                first = self._device.run(
                    RunRequest(
                        state.run.library,
                        state.run.inputs,
                        repeat=3,
                        warmup=2,
                        threads=self._threads,
                        timeout=RUN_SECONDS,
                    )
                )
                state.output = first.outputs[0]
                least = max(min(first.seconds), 1e-7)
                state.repeat = max(3, min(_MOST_RUNS, round(_ROUND_SECONDS / least)))
            result = self._device.run(
                RunRequest(
                    state.run.library,
                    state.run.inputs,
                    repeat=state.repeat,
                    warmup=2,
                    threads=self._threads,
                    timeout=RUN_SECONDS,
                )
            )
            state.medians.append(statistics.median(result.seconds))
        except DeviceError as error:
            state.failure = Failure(cause_of(error), error.message)
        except TvmbuildError as error:
            state.failure = Failure("crash", error.message)

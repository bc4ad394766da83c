"""What a machine says of itself, read from made-up files, and what spoils a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.device.fleet.health import is_slowed, local_health, readings_of
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.tuning.measure.local import ATTEMPTS, LocalMeasurer
from tvmbuild.tuning.measure.protocol import Run

COOL = {"temperature_c": 55.0, "mhz": 1500, "limit_mhz": 1500, "throttled": []}


def test_what_a_pi_tells_is_read(tmp_path: Path) -> None:
    files = {
        "sys/class/thermal/thermal_zone0/temp": "40000\n",
        "sys/class/thermal/thermal_zone0/type": "gpu\n",
        "sys/class/thermal/thermal_zone1/temp": "71250\n",
        "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1400000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1500000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    facts = local_health(tmp_path)
    assert facts == {
        "temperature_c": 71.2,
        "mhz": 1400,
        "limit_mhz": 1500,
        # The higher bits speak of the past.
        "throttled": ["under-voltage", "throttled"],
    }
    assert readings_of({}, facts) == {"temperature_c_after": 71.2, "mhz_after": 1400.0}
    assert local_health(tmp_path / "nothing") == {}


@pytest.mark.parametrize(
    ("before", "after", "slowed"),
    [
        (COOL, COOL, False),
        ({}, {}, False),
        (COOL, {**COOL, "throttled": ["under-voltage"]}, True),
        ({**COOL, "throttled": ["soft temperature limit"]}, COOL, True),
        (COOL, {**COOL, "throttled": ["throttled before", "under-voltage before"]}, False),
        # A board without such firmware: the kernel has lowered the highest clock meanwhile.
        (COOL, {**COOL, "limit_mhz": 1200}, True),
        ({**COOL, "limit_mhz": 1200}, {**COOL, "limit_mhz": 1500}, False),
    ],
)
def test_what_spoils_a_measurement(before: Mapping[str, Any], after: Mapping[str, Any], slowed: bool) -> None:
    assert is_slowed(before, after) is slowed


class Instant(LocalMeasurer):
    """Runs nothing."""

    def __init__(self, health: Sequence[Mapping[str, Any]]) -> None:
        self._health, self._cooling = iter(health).__next__, 0.0
        self.batches = 0

    def _rounds(self, runs: Any) -> Any:
        self.batches += 1
        return [type("State", (), {"failure": None, "medians": [1.0], "output": None})() for _ in runs]


def test_what_is_throttled_on_this_machine_is_measured_again_and_never_kept() -> None:
    hot = {**COOL, "throttled": ["throttled"]}
    runs = [Run(Path("a.so"), ())]
    measurer = Instant([COOL, hot, COOL, COOL])
    (outcome,) = measurer.measure(runs)
    assert isinstance(outcome, Measurement)
    assert outcome.readings["temperature_c_before"] == 55.0
    assert measurer.batches == 2
    (failed,) = Instant([hot] * 2 * ATTEMPTS).measure(runs)
    assert isinstance(failed, Failure)
    assert failed.cause == "throttled"

"""How a machine is doing: temperature, clock and the firmware's flags, and whether they spoil a measurement.

The native server tells the same of a board (``native/server/board_facts.cc``); here it is read for measurements on
this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FREQUENCY = "sys/devices/system/cpu/cpu0/cpufreq"
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
#: The firmware's flags of what goes on now, by bit
#: (https://www.raspberrypi.com/documentation/computers/os.html#get_throttled).
_NOW = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}


def local_health(root: Path = Path("/")) -> dict[str, Any]:
    """Return temperature_c, mhz, limit_mhz and throttled (words); each only where this machine tells.

    Args:
        root: where to read /sys.
    """
    facts: dict[str, Any] = {}
    temperature = _temperature(root)
    if temperature is not None:
        facts["temperature_c"] = round(temperature / 1000, 1)
    for name, file in (("mhz", "scaling_cur_freq"), ("limit_mhz", "scaling_max_freq")):
        khz = _number(root / _FREQUENCY / file)
        if khz is not None:
            facts[name] = khz // 1000
    flags = _number(root / _FIRMWARE, 16)
    if flags is not None:
        facts["throttled"] = [word for bit, word in _NOW.items() if flags >> bit & 1]
    return facts


def is_slowed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a machine ran slower than it can, by what it said of itself before and after.

    The firmware's flags say so on a Raspberry Pi; elsewhere the kernel lowers the highest clock while a core is hot.
    """
    flagged = {*before.get("throttled", ()), *after.get("throttled", ())} & set(_NOW.values())
    return bool(flagged) or after.get("limit_mhz", 0) < before.get("limit_mhz", 0)


def readings_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """Return temperature and clock before and after, for a record."""
    return {
        f"{name}_{when}": float(facts[name])
        for when, facts in (("before", before), ("after", after))
        for name in ("temperature_c", "mhz")
        if name in facts
    }


def _temperature(root: Path) -> int | None:
    """Return the thousandths of a degree that the processor's sensor, or else the first, reads."""
    read = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        value = _number(zone / "temp")
        if value is not None:
            read.append(("cpu" not in _text(zone / "type"), zone.name, value))
    return min(read)[2] if read else None


def _number(path: Path, base: int = 10) -> int | None:
    try:
        return int(_text(path), base)
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""

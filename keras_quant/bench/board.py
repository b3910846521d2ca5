"""What a Jetson says of itself: tegrastats, nvpmodel, its release file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_quant.errors import ResultsError

_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
# https://developer.nvidia.com/embedded/jetpack-archive
_JETPACKS = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}

_MODE = re.compile(r"NV Power Mode: ?(\S+)")

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_GPU = re.compile(r"\bGR3D_FREQ (\d+)%(?:@\[?([\d,]+)\]?)?")
_TEMPERATURE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
# JetPack 4 writes "POM_5V_IN 1388/1388", 5 and newer "VDD_IN 1388mW/1388mW", 7.2 a peak behind it.
_RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/(\d+)(?:mW)?(?:/(\d+)(?:mW)?)?(?=\s|$)")
_GENERATIONS = ("orin", "xavier", "thor", "tx2", "tx1", "nano")
_NO_SENSOR_C = -256.0
_NOT_RAILS = ("RAM", "SWAP", "IRAM", "NC")  # NC: not connected
_NOT_SENSORS = ("PMIC",)  # JetPack 4 tells a number that never changes
WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")
"""Rails through which all of a board's power comes, where it has one that is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """One line of tegrastats.

    Attributes:
        ram_mb: in use.
        gpu_load: share of the time that the GPU was busy.
        gpu_mhz: its clock; None where the line does not tell.
        temperature_c: by sensor, those that are off left out.
        power_mw: by rail, at that moment; empty where a plain user may not read them.
    """

    ram_mb: int
    gpu_load: float | None
    gpu_mhz: int | None
    temperature_c: Mapping[str, float]
    power_mw: Mapping[str, int]


def parse_tegrastats(text: str, where: str) -> list[Stats]:
    """Reads what tegrastats wrote, a line a moment; the last one may be cut.

    Raises:
        ResultsError: no line is one of tegrastats.
    """
    found = [_stats(line) for line in text.splitlines() if _RAM.search(line)]
    if not found:
        raise ResultsError(f"{where}: has no line of tegrastats (RAM used/totalMB ...)")
    return found


def parse_power_mode(text: str) -> str:
    """The name of the power mode, of what `nvpmodel -q` prints; "" where it tells none."""
    found = _MODE.search(text)
    return found[1] if found else ""


def parse_release(text: str) -> dict[str, str]:
    """What /etc/nv_tegra_release says: l4t, as "36.4.7", and the major version of its JetPack.

    Returns: nothing where it is of another kind.
    """
    found = _RELEASE.search(text)
    if found is None:
        return {}
    jetpack = _JETPACKS.get(int(found[1]))
    return {"l4t": f"{found[1]}.{found[2]}", **({"jetpack": jetpack} if jetpack else {})}


def generation(text: str) -> str:
    """What generation of Jetson a name is of: that of a board here, or /proc/device-tree/model's.

    Returns: "orin", "xavier", "thor", "tx2", "tx1" or "nano"; "" where it tells none.
    """
    lowered = text.lower()
    if lowered.startswith("jetson-agx"):  # that of JetPack 4 on an AGX Xavier
        return "xavier"
    # Before nano, which an Orin Nano is called, too.
    return next((name for name in _GENERATIONS if name in lowered), "")


def mean_power_mw(stats: Sequence[Stats]) -> dict[str, float]:
    """The mean of each rail over the moments that tell it."""
    rails = dict.fromkeys(rail for one in stats for rail in one.power_mw)
    means = {}
    for rail in rails:
        values = [one.power_mw[rail] for one in stats if rail in one.power_mw]
        means[rail] = sum(values) / len(values)
    return means


def throttling(stats: Sequence[Stats]) -> str:
    """Says where a busy GPU's clock fell: below 0.9 of its highest in a tenth of the moments.

    Returns: a sentence; "" where it did not, or no clock is told.
    """
    clocks = [one.gpu_mhz for one in stats if one.gpu_mhz and (one.gpu_load or 0) > 0.5]
    slow = [clock for clock in clocks if clock < 0.9 * max(clocks)]
    if len(slow) * 10 < len(clocks) or not slow:
        return ""
    hottest = max((max(one.temperature_c.values(), default=0.0) for one in stats), default=0.0)
    return (
        f"the busy GPU's clock fell from {max(clocks)} to {min(slow)} MHz (hottest sensor "
        f"{hottest:.0f} C): it was throttled, or its clocks were not fixed (sudo jetson_clocks)"
    )


def _stats(line: str) -> Stats:
    gpu, ram = _GPU.search(line), _RAM.search(line)
    assert ram is not None
    clocks = [int(clock) for clock in gpu[2].split(",") if clock] if gpu and gpu[2] else []
    return Stats(
        ram_mb=int(ram[1]),
        gpu_load=int(gpu[1]) / 100 if gpu else None,
        gpu_mhz=max(clocks) if clocks else None,
        temperature_c={
            name: float(value)
            for name, value in _TEMPERATURE.findall(line)
            if float(value) != _NO_SENSOR_C and name not in _NOT_SENSORS
        },
        power_mw={
            found[1]: int(found[2]) for found in _RAIL.finditer(line) if found[1] not in _NOT_RAILS
        },
    )

"""Energy of the processor, where the system lets it be read: RAPL's counters of packages.

Linux, Documentation/power/powercap/powercap.rst. Most systems let only root read them; then there
is no figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One package's energy.

    Attributes:
        file: with microjoules that were used since some time.
        range_uj: behind which it begins at 0 again.
    """

    file: Path
    range_uj: int


def find_counters(folder: Path = POWERCAP) -> tuple[Counter, ...]:
    """The counters of all packages; () where one of them cannot be read."""
    counters = []
    for zone in sorted(folder.glob("intel-rapl:[0-9]*")):
        if zone.name.count(":") > 1:  # a part of a package
            continue
        try:
            limit = int((zone / "max_energy_range_uj").read_text())
            counter = Counter(file=zone / "energy_uj", range_uj=limit)
            _read(counter)
        except (OSError, ValueError):
            return ()
        counters.append(counter)
    return tuple(counters)


def read_counters(counters: tuple[Counter, ...]) -> tuple[int, ...]:
    """What the counters say, in microjoules."""
    return tuple(_read(counter) for counter in counters)


def used_uj(
    counters: tuple[Counter, ...], before: tuple[int, ...], after: tuple[int, ...]
) -> int | None:
    """Microjoules between two readings less than a round of a counter apart; None without one."""
    if not counters:
        return None
    return sum(
        (end - start) % counter.range_uj
        for counter, start, end in zip(counters, before, after, strict=True)
    )


def _read(counter: Counter) -> int:
    return int(counter.file.read_text())

"""The machine that times were taken on: what decides over them, and what disturbed them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_quant.runs.records import environment

_ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
_MOST_OTHERS = 0.05
_MOST_STOLEN = 0.005
_MOST_ROUND_SPREAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides over times, as far as the system tells it.

    Attributes:
        environment: see `records.environment`: processor, its instructions, cores, Python.
        governor: what chooses the clocks of the first core; "" where the system does not say.
        clock_mhz: of each core, before measuring; () where the system does not say.
        turbo: whether clocks may go beyond the nominal one; None where the system does not say.
        smt: whether cores run two threads each; None where the system does not say.
        virtual: whether it is a virtual machine, where others may run on the same cores.
        load: processes that wanted to run, mean of the minute before; None where unknown.
        board: of another machine: its name, JetPack, power mode, ..., as it was told.
    """

    environment: Mapping[str, str]
    governor: str = ""
    clock_mhz: tuple[float, ...] = ()
    turbo: bool | None = None
    smt: bool | None = None
    virtual: bool = False
    load: float | None = None
    board: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticks:
    """What all cores did since the machine was started, in ticks of /proc/stat.

    Attributes:
        busy: of all processes, stolen ones not counted.
        stolen: in which another virtual machine had the core.
        total: of all cores, idle ones too.
    """

    busy: int
    stolen: int
    total: int


def describe_machine(root: Path = _ROOT) -> Machine:
    """Reads what the system says of its processor and clocks.

    Args:
        root: of the file system.
    """
    cpuinfo = _text(root / "proc/cpuinfo")
    no_turbo = _text(root / _CPU / "intel_pstate/no_turbo")
    boost = _text(root / _CPU / "cpufreq/boost")
    smt = _text(root / _CPU / "smt/active")
    load = _text(root / "proc/loadavg").split()
    return Machine(
        environment=environment(),
        governor=_text(root / _CPU / "cpu0/cpufreq/scaling_governor"),
        clock_mhz=_clocks(root, cpuinfo),
        turbo=no_turbo == "0" if no_turbo else (boost == "1" if boost else None),
        smt=smt == "1" if smt else None,
        virtual=" hypervisor" in cpuinfo,
        load=float(load[0]) if load else None,
    )


def read_ticks(root: Path = _ROOT) -> Ticks | None:
    """Reads the first line of /proc/stat; None where there is none (proc(5))."""
    words = _text(root / "proc/stat").partition("\n")[0].split()[1:9]
    if len(words) < 8:
        return None
    user, nice, system, idle, iowait, irq, softirq, stolen = map(int, words)
    busy = user + nice + system + irq + softirq
    return Ticks(busy=busy, stolen=stolen, total=busy + stolen + idle + iowait)


def disturbances(
    before: Ticks | None,
    after: Ticks | None,
    *,
    own_seconds: float,
    round_spreads: Mapping[str, float],
) -> tuple[str, ...]:
    """Says in words what made times uncertain; () where nothing was found.

    Args:
        before, after: the ticks when measuring began and ended.
        own_seconds: processor time that measuring itself took meanwhile.
        round_spreads: by file, see `Summary.round_spread`.
    """
    found = []
    if before is not None and after is not None and after.total > before.total:
        total = after.total - before.total
        own = own_seconds * os.sysconf("SC_CLK_TCK")
        others = max(0.0, after.busy - before.busy - own) / total
        stolen = (after.stolen - before.stolen) / total
        if others > _MOST_OTHERS:
            found.append(f"other processes took {others:.0%} of the processors' time")
        if stolen > _MOST_STOLEN:
            found.append(f"other virtual machines took {stolen:.1%} of its time")
    found += [
        f"half of the rounds of {name} are spread over {spread:.0%} of their median"
        for name, spread in round_spreads.items()
        if spread > _MOST_ROUND_SPREAD
    ]
    return tuple(f"the machine is noisy: {sentence}" for sentence in found)


def differing(then: Machine, now: Machine) -> list[str]:
    """What two machines differ in that decides over times: "NAME A, now B" each."""
    facts = [{**m.environment, "governor": m.governor, "smt": str(m.smt)} for m in (then, now)]
    names = ("cpu", "cpu_instructions", "cores", "governor", "smt", "platform")
    return [
        f"{name} {facts[0].get(name)}, now {facts[1].get(name)}"
        for name in names
        if facts[0].get(name) != facts[1].get(name)
    ]


def _clocks(root: Path, cpuinfo: str) -> tuple[float, ...]:
    files = sorted(root.glob(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    of_files = [_text(file) for file in files]
    if of_files and all(text.isdigit() for text in of_files):
        return tuple(int(text) / 1e3 for text in of_files)
    return tuple(_numbers(cpuinfo.splitlines(), "cpu MHz"))


def _numbers(lines: Sequence[str], name: str) -> list[float]:
    return [float(line.partition(":")[2]) for line in lines if line.startswith(name)]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

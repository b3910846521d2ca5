"""What the system says of a machine, from files that look like its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from keras_quant.bench.energy import find_counters, read_counters, used_uj
from keras_quant.bench.machine import (
    Ticks,
    describe_machine,
    differing,
    disturbances,
    read_ticks,
)

TICKS = os.sysconf("SC_CLK_TCK")
INTEL = {
    "proc/cpuinfo": "processor : 0\nflags : fpu avx2\ncpu MHz\t\t: 2600.5\n",
    "proc/loadavg": "0.25 0.10 0.05 1/200 4242\n",
    "proc/stat": "cpu  100 5 45 800 50 10 40 30 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3100000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "2900000\n",
    "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
    "sys/devices/system/cpu/smt/active": "1\n",
}


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_clocks_and_governor_are_told(tmp_path: Path) -> None:
    machine = describe_machine(write(tmp_path, INTEL))
    assert machine.governor == "performance"
    assert machine.clock_mhz == (3100, 2900)
    assert (machine.turbo, machine.smt, machine.virtual) == (False, True, False)
    assert machine.load == 0.25


def test_amd_has_its_boost_elsewhere(tmp_path: Path) -> None:
    files = {"sys/devices/system/cpu/cpufreq/boost": "1\n", "proc/cpuinfo": "flags : hypervisor\n"}
    machine = describe_machine(write(tmp_path, files))
    assert (machine.turbo, machine.virtual) == (True, True)


def test_what_the_system_does_not_say_is_absent(tmp_path: Path) -> None:
    machine = describe_machine(tmp_path)
    assert (machine.governor, machine.clock_mhz, machine.turbo) == ("", (), None)
    assert (machine.smt, machine.load, read_ticks(tmp_path)) == (None, None, None)


def test_ticks_are_those_of_all_cores(tmp_path: Path) -> None:
    assert read_ticks(write(tmp_path, INTEL)) == Ticks(busy=200, stolen=30, total=1080)


def test_others_are_who_did_not_measure() -> None:
    before, after = Ticks(busy=0, stolen=0, total=0), Ticks(busy=500, stolen=10, total=1000)
    quiet = disturbances(before, after, own_seconds=480 / TICKS, round_spreads={"a": 0.01})
    assert quiet == ("the machine is noisy: other virtual machines took 1.0% of its time",)
    noisy = disturbances(before, after, own_seconds=250 / TICKS, round_spreads={"a": 0.1})
    assert noisy[0] == "the machine is noisy: other processes took 25% of the processors' time"
    assert (
        noisy[2]
        == "the machine is noisy: half of the rounds of a are spread over 10% of their median"
    )
    assert disturbances(None, None, own_seconds=0, round_spreads={}) == ()


def test_another_processor_is_told(tmp_path: Path) -> None:
    then = describe_machine(tmp_path)
    now = replace(then, governor="powersave", environment={**then.environment, "cpu": "other"})
    assert differing(then, then) == []
    assert differing(then, now) == [
        f"cpu {then.environment['cpu']}, now other",
        "governor , now powersave",
    ]


def rapl(folder: Path, **microjoules: int) -> None:
    for zone, value in microjoules.items():
        name = zone.replace("_", ":")
        write(folder, {f"intel-rapl:{name}/energy_uj": f"{value}\n"})
        write(folder, {f"intel-rapl:{name}/max_energy_range_uj": "1000\n"})


def test_energy_is_that_of_all_packages_and_of_no_part_of_one(tmp_path: Path) -> None:
    rapl(tmp_path, **{"0": 100, "1": 990, "0_0": 7})
    counters = find_counters(tmp_path)
    before = read_counters(counters)
    rapl(tmp_path, **{"0": 150, "1": 10, "0_0": 900})  # the second began at 0 again
    assert used_uj(counters, before, read_counters(counters)) == 50 + 20


def test_energy_that_cannot_be_read_is_no_figure(tmp_path: Path) -> None:
    assert find_counters(tmp_path) == ()
    assert used_uj((), (), ()) is None
    rapl(tmp_path, **{"0": 100})
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert find_counters(tmp_path) == ()

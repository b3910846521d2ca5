"""What a Jetson says of itself, in the words of each JetPack."""

from __future__ import annotations

import pytest

from keras_quant.bench.board import (
    Stats,
    generation,
    mean_power_mw,
    parse_power_mode,
    parse_release,
    parse_tegrastats,
    throttling,
)
from keras_quant.errors import ResultsError
from keras_quant.targets.jetson import BOARDS
from tests.bench.boards import POWER_MODE, RELEASE, SHARED, TEGRASTATS

HEAD = "RAM 2000/3964MB (lfb 98x4MB) SWAP 29/1982MB (cached 3MB) CPU [6%@102,off] EMC_FREQ 0%"
LINES = {
    "JetPack 4, rails without a unit": (
        f"{HEAD} GR3D_FREQ 7% PLL@28C PMIC@100C GPU@30.5C POM_5V_IN 1388/1400 POM_5V_GPU 122/130",
        Stats(
            ram_mb=2000,
            gpu_load=0.07,
            gpu_mhz=None,
            temperature_c={"PLL": 28, "GPU": 30.5},
            power_mw={"POM_5V_IN": 1388, "POM_5V_GPU": 122},
        ),
    ),
    "a plain user sees no rails": (
        f"{HEAD} GR3D_FREQ 99% AO@54.5C thermal@55.75C",
        Stats(
            ram_mb=2000,
            gpu_load=0.99,
            gpu_mhz=None,
            temperature_c={"AO": 54.5, "thermal": 55.75},
            power_mw={},
        ),
    ),
    "JetPack 5, a sensor that is off, an unconnected rail": (
        f"{HEAD} GR3D_FREQ 10%@1300 GR3D2_FREQ 0%@0 APE 174 CV0@-256C tj@42.593C "
        "VDD_GPU_SOC 2399mW/2400mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW",
        Stats(
            ram_mb=2000,
            gpu_load=0.1,
            gpu_mhz=1300,
            temperature_c={"tj": 42.593},
            power_mw={"VDD_GPU_SOC": 2399, "VDDQ_VDD2_1V8AO": 301},
        ),
    ),
    "JetPack 7, two clusters, peaks": (
        f"{HEAD} GR3D_FREQ 12%@[1300,1100] NVENC0 off cpu@52.9C/53.1C VDD_IN 5139mW/5000mW/6000mW",
        Stats(
            ram_mb=2000,
            gpu_load=0.12,
            gpu_mhz=1300,
            temperature_c={"cpu": 52.9},
            power_mw={"VDD_IN": 5139},
        ),
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_each_jetpack_is_read(name: str) -> None:
    line, expected = LINES[name]
    assert parse_tegrastats(line, "log") == [expected]


def test_text_of_something_else_is_refused() -> None:
    with pytest.raises(ResultsError, match="t.log: has no line of tegrastats"):
        parse_tegrastats("sh: tegrastats: not found\n", "t.log")


def test_power_is_the_mean_of_each_rail() -> None:
    assert mean_power_mw(parse_tegrastats(TEGRASTATS, "log")) == {"VDD_IN": 7000}


def stats(*clocks: int, load: float = 0.99) -> list[Stats]:
    return [
        Stats(ram_mb=1, gpu_load=load, gpu_mhz=clock, temperature_c={"tj": 80.0}, power_mw={})
        for clock in clocks
    ]


def test_a_clock_that_falls_is_told() -> None:
    assert throttling(stats(*[1000] * 9, 800)) == (
        "the busy GPU's clock fell from 1000 to 800 MHz (hottest sensor 80 C): it was throttled, "
        "or its clocks were not fixed (sudo jetson_clocks)"
    )
    assert throttling(stats(*[1000] * 20, 800)) == ""  # one moment of 21
    assert throttling(stats(*[1000] * 9, 950)) == ""
    assert throttling([*stats(1000, 1000), *stats(300, load=0.0)]) == ""  # idle
    assert throttling([]) == ""


def test_release_and_power_mode_are_read() -> None:
    assert parse_release(RELEASE) == {"l4t": "36.4.7", "jetpack": "6"}
    assert parse_release("# R99 (release), REVISION: 1.0, x") == {"l4t": "99.1.0"}
    assert parse_release("Ubuntu") == {}
    assert parse_power_mode(POWER_MODE) == "25W"
    assert parse_power_mode("NVPM VERB: Current mode: NV Power Mode: MAXN\n0") == "MAXN"
    assert parse_power_mode("NV Fan Mode:quiet") == ""


@pytest.mark.skipif(not (SHARED / "jetson").is_dir(), reason="needs the recordings")
def test_recorded_lines_are_read() -> None:
    text = (SHARED / "jetson" / "tegrastats_lines.txt").read_text()
    found = parse_tegrastats(text, "recorded")
    assert len(found) == 7
    assert found[0].power_mw == {"POM_5V_IN": 1388, "POM_5V_GPU": 122, "POM_5V_CPU": 163}
    assert (found[3].gpu_load, found[3].power_mw) == (0.99, {})
    assert (found[5].gpu_mhz, found[6].gpu_mhz) == (0, 1300)
    releases = (SHARED / "jetson" / "nv_tegra_release.txt").read_text().splitlines()
    named = [parse_release(line) for line in releases if line.startswith("# R")]
    assert [one["jetpack"] for one in named] == ["4", "4", "4", "6", "7", "7"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("NVIDIA Jetson Orin Nano Developer Kit", "orin"),
        ("orin-nano", "orin"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "xavier"),
        ("Jetson-AGX", "xavier"),
        ("NVIDIA Jetson Nano Developer Kit", "nano"),
        ("quill", ""),
        ("", ""),
    ],
)
def test_generations_are_told_apart(text: str, found: str) -> None:
    assert generation(text) == found


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_of_a_generation(name: str) -> None:
    assert generation(name)

"""What a board prints and writes, made up in the form of real recordings; the numbers are ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

# Real recordings, where they lie beside the project: they are not ours to hand on.
SHARED = Path(os.environ.get("KQ_SHARED", Path(__file__).parents[3] / "shared")) / "data"

STAMP = "[01/01/2026-10:00:00] [I]"


def a_log(
    *,
    version: str = "8502",
    mean: float = 2.5,
    qps: float = 400.0,
    queries: int | None = 4,
    verdict: str = "PASSED",
    command: str = "trtexec --loadEngine=model.engine",
    percentiles: str = "percentile(99%)",
) -> str:
    """A log in the form of TensorRT 8 to 10."""

    def line(name: str, factor: float) -> str:
        times = f"min = {mean * factor * 0.5:g} ms, max = {mean * factor * 2:g} ms"
        tail = ", ".join(f"{one} = {mean * factor * 1.5:g} ms" for one in percentiles.split(","))
        middle = f"mean = {mean * factor:g} ms, median = {mean * factor:g} ms"
        return f"{STAMP} {name}: {times}, {middle}, {tail}"

    lines = [
        f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # {command}",
        *([f"{STAMP} Timing trace has {queries} queries over 3.01 s"] if queries else []),
        f"{STAMP} === Performance summary ===",
        f"{STAMP} Throughput: {qps:g} qps",
        line("Latency", 1),
        *([line("End-to-End Host Latency", 1.1)] if version.startswith("82") else []),
        line("Enqueue Time", 0.1),
        line("H2D Latency", 0.05),
        line("GPU Compute Time", 0.9),
        line("D2H Latency", 0.05),
        f"{STAMP} Total Host Walltime: 3.01 s",
        f"{STAMP} Total GPU Compute Time: 2.9 s",
        f"&&&& {verdict} TensorRT.trtexec [TensorRT v{version}] # {command}",
    ]
    return "\n".join(lines) + "\n"


def some_times(*milliseconds: float) -> str:
    """A file of --exportTimes: latency is given, computing takes nine tenths of it."""
    rows = [
        {"startEnqMs": 1.0, "endEnqMs": 1.1, "computeMs": 0.9 * ms, "latencyMs": ms, "added": "x"}
        for ms in milliseconds
    ]
    return json.dumps(rows)


A_PROFILE = json.dumps(
    [
        {"count": 100},
        {"name": "conv1", "timeMs": 30.0, "averageMs": 0.3, "medianMs": 0.3, "percentage": 75.0},
        {"name": "Reformatting CopyNode for Output Tensor 0 to conv1", "averageMs": 0.1},
    ]
)
SOME_LAYERS = json.dumps(
    {
        "Layers": [
            {
                "Name": "conv1",
                "LayerType": "CaskConvolution",
                "Inputs": [
                    {"Format/Datatype": "Four wide channel vectorized row major Int8 format"}
                ],
                "Outputs": [{"Format/Datatype": "Row major linear FP32"}],
            },
            "only a name",
        ]
    }
)
TEGRASTATS = """\
01-01-2026 10:00:00 RAM 1500/7620MB (lfb 20x4MB) SWAP 0/3810MB (cached 0MB) CPU [5%@1510,off] \
EMC_FREQ 0%@2133 GR3D_FREQ 0%@[306] CV0@-256C cpu@45.5C tj@46C VDD_IN 4000mW/4000mW
01-01-2026 10:00:01 RAM 1600/7620MB (lfb 20x4MB) SWAP 0/3810MB (cached 0MB) CPU [9%@1510,off] \
EMC_FREQ 9%@2133 GR3D_FREQ 99%@[624] CV0@-256C cpu@47.5C tj@48C VDD_IN 8000mW/6000mW
01-01-2026 10:00:02 RAM 1600/7620MB (lfb 20x4MB) SWAP 0/3810MB (cached 0MB) CPU [9%@1510,off] \
EMC_FREQ 9%@2133 GR3D_FREQ 99%@[624] CV0@-256C cpu@48.5C tj@49C VDD_IN 9000mW/7000mW
"""
RELEASE = "# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Thu\n"
POWER_MODE = "NV Fan Mode:quiet\nNV Power Mode: 25W\n1\n"

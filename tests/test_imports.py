from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "tensorflow", "tf_keras", "keras", "qkeras", "rich", "yaml", "matplotlib"}

# Issue 2 allows `kq --help` 150 ms.
HELP_SECONDS = 0.150

HELP = "from keras_quant.cli.main import main; main(['--help'], standalone_mode=False)"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh Python has loaded after some code."""
    report = "; import sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stderr.split()}


@pytest.mark.parametrize(
    "code",
    ["import keras_quant", HELP, "import keras_quant.records", "import keras_quant.cli.output"],
)
def test_light_part_loads_no_heavy_package(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_help_takes_less_than_150_ms_of_processor_time() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", HELP], cwd=ROOT, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < HELP_SECONDS

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"numpy", "tensorflow", "tf_keras", "keras", "qkeras", "rich", "yaml", "matplotlib"}

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
    [
        "import keras_quant",
        HELP,
        "import keras_quant.runs.records",
        "import keras_quant.cli.output",
        "import keras_quant.proof.formats",
    ],
)
def test_light_part_loads_no_heavy_package(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()

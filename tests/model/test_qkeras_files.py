"""Models that users trained with QKeras answer here as they do there, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from keras_quant.model.files import load_model  # noqa: E402
from tests.model import plain_qkeras  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that QKeras wrote in a process of its own, and what it answered."""
    folder = tmp_path_factory.mktemp("plain_qkeras")
    script, quiet = plain_qkeras.__file__, {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "ignore", script, str(folder)]
    subprocess.run(command, check=True, env=quiet)
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", plain_qkeras.MODELS)
def test_loaded_model_answers_bit_for_bit_as_qkeras_does(
    folder: Path, name: str, suffix: str
) -> None:
    expected = dict(np.load(folder / f"{name}.npz"))
    found = plain_qkeras.answers(load_model(folder / f"{name}{suffix}"))
    assert found.keys() == expected.keys()
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values, err_msg=output)


def test_answers_show_what_the_order_of_additions_does(folder: Path) -> None:
    """Where a model is run as a graph, TensorFlow adds x + (q - x) + y in another order."""
    expected = np.load(folder / "ties.npz")
    assert (expected["eager_sum"] != expected["predict_sum"]).any()

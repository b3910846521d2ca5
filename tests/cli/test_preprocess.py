"""--preprocess of all commands that take it, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
TAKES = ("train", "quantize", "evaluate", "export")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that tells the digits' brightness, of raw pixels or of others by its Rescaling."""
    layers = [keras.Input((8, 8, 1)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(10)]
    path = tmp_path / "model.keras"
    save_model(keras.Sequential(layers), path)
    return path


@pytest.mark.parametrize("command", TAKES)
def test_every_command_that_is_given_images_takes_it(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert "--preprocess NAME" in result.stdout and "torch, or 'mean=M std=S'" in " ".join(
        result.stdout.split()
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "MODEL", "--dataset", "digits"],
        ["export", "MODEL", "--dataset", "digits", "--out", "OUT"],
        ["quantize", "MODEL", "--dataset", "digits", "--out", "OUT"],
        ["train", "--model", "mlp", "--out", "OUT"],
    ],
)
def test_what_cannot_be_read_is_told_with_close_names(
    tmp_path: Path, model: Path, arguments: list[str]
) -> None:
    places = {"MODEL": str(model), "OUT": str(tmp_path / "out")}
    typed = [places.get(word, word) for word in arguments]
    result = CliRunner().invoke(main, [*typed, "--preprocess", "rew"])
    assert result.exit_code == 2, result.output
    assert "--preprocess 'rew' is not known; close names: raw; allowed are unit:" in result.stderr
    assert not (tmp_path / "out").exists()


def test_evaluate_says_what_it_found_and_guesses_that_it_met(model: Path) -> None:
    result = CliRunner().invoke(main, ["evaluate", str(model), "--dataset", "digits", "--json"])
    assert result.exit_code == 0, result.output
    assert "the model takes raw: pixel, 0 to 255: found in layer rescaling" in result.stderr
    (row,) = json.loads(result.stdout)
    assert row["preprocess"]["name"] == "raw"
    assert row["warning"].startswith("accuracy ") == ("warning:" in result.stderr)


def test_inspect_says_what_the_model_takes(model: Path) -> None:
    result = CliRunner().invoke(main, ["inspect", str(model)])
    assert result.exit_code == 0
    assert "the model takes raw: pixel, 0 to 255: found in layer rescaling" in result.stderr


def test_what_is_unusual_of_the_files_is_said_once(tmp_path: Path, model: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)
    y = np.eye(10, dtype=int)[np.arange(40) % 10]
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    arguments = ["evaluate", str(model), "--dataset", str(tmp_path / "own.npz")]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("x_test is (40, 1, 8, 8), channels first") == 1
    assert result.stderr.count("y_test is one-hot, (40, 10)") == 1

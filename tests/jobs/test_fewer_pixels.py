"""Nets for fewer pixels of the same images: trained, quantized, exported, and chosen from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.runs import records  # noqa: E402


def kq(*words: str | Path) -> Any:
    result = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A net of all pixels of the digits, and a quantized one of a quarter of them."""
    folder = tmp_path_factory.mktemp("runs")
    train = ("train", "--model", "mlp", "--option", "units=16", "--epochs", "2", "--out", folder)
    kq(*train, "--bits", "w4a8", "--name", "whole")
    kq(*train, "--method", "float", "--dataset", "digits+4px", "--name", "float")
    kq("quantize", folder / "float", "--out", folder, "--name", "small")
    return folder / "small", folder / "whole"


def test_a_run_of_fewer_pixels_is_proven_and_judged_on_them(runs: tuple[Path, Path]) -> None:
    small, whole = (records.load(run).dataset for run in runs)
    assert (small.name, small.input_shape) == ("digits+4px", (4, 4, 1))
    assert (small.sizes, small.source) == (whole.sizes, whole.source)
    _, tflite = kq("evaluate", runs[0])
    assert tflite["images"] == 359 and tflite["outputs"][0]["agreement"] == 1


def test_a_controller_of_both_comes_to_what_was_simulated(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    saved = tmp_path / "controller.json"
    done = kq("anytime", "simulate", *runs, "--board", "nano", "--save", saved)
    own = {one["name"]: one["test_accuracy"] for one in done["places"][0]["options"]}
    for run in runs:
        _, tflite = kq("evaluate", run)
        assert own[run.name] == tflite["outputs"][0]["scores"]["accuracy"]
    ran = kq("anytime", "control", saved)
    assert (
        ran["accuracy"]
        == ran["simulated"]["test_accuracy"]
        == done["places"][0]["test"]["accuracy"]
    )
    assert ran["mean_cost"] == pytest.approx(ran["simulated"]["mean_cost"])

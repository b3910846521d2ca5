"""Who is told that a run is validated on what its weights were trained on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from keras_quant.errors import KerasQuantWarning
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.jobs.validation import run_behind, warn_of_seen
from keras_quant.runs import records
from keras_quant.schemes.file import load_scheme
from tests.fake_runs import RECORD, make_run

FLOAT = TrainSettings(scheme=load_scheme("float"))


def run(path: Path, *, seed: int, fraction: float) -> Path:
    made = make_run(path)
    training = replace(RECORD.training, seed=seed)
    dataset = replace(RECORD.dataset, validation_fraction=fraction)
    records.save(replace(RECORD, training=training, dataset=dataset), made)
    return made


def warned(**settings: object) -> list[str]:
    given = replace(FLOAT, **settings)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", KerasQuantWarning)
        warn_of_seen(given, run_behind(given.model, given.parent))
    return [str(each.message) for each in found]


@pytest.mark.parametrize("split", [{"seed": 4}, {"split_seed": 4}, {"validation_fraction": 0.2}])
@pytest.mark.parametrize("start", ["--from", "file"])
def test_another_split_than_that_of_the_run_behind_it_is_told(
    tmp_path: Path, split: dict[str, object], start: str
) -> None:
    parent = run(tmp_path / "base", seed=3, fraction=0.1)
    file = parent / "model.keras"
    begin = {"parent": parent} if start == "--from" else {"model": str(file)}
    assert warned(**begin, seed=3) == warned(**begin, seed=9, split_seed=3) == []
    (text,) = warned(**{"seed": 3, **begin, **split})
    assert text.startswith(f"--from {parent}: " if start == "--from" else f"{file}: ")
    assert "validated on images that these weights were trained on" in text
    assert text.endswith("--split-seed 3 --validation-fraction 0.1")


def test_other_images_and_first_weights_have_no_split_to_keep(tmp_path: Path) -> None:
    parent = run(tmp_path / "base", seed=3, fraction=0.1)
    assert warned(seed=4) == warned(parent=parent, seed=4, dataset="mnist") == []
    assert len(warned(parent=parent, seed=4, dataset="digits+noise25")) == 1
    assert warned(model=str(tmp_path / "own.keras"), seed=4) == []

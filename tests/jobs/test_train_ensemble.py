"""Members of an ensemble differ in what their kind says, and share their validation images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import RunError, UsageError  # noqa: E402
from keras_quant.jobs import ensembles  # noqa: E402
from keras_quant.jobs.train import load_images  # noqa: E402
from keras_quant.jobs.train_ensemble import member_settings, train_ensemble  # noqa: E402
from keras_quant.jobs.train_settings import MAX_SEED, TrainSettings  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.training.optimizer_settings import OptimizerSettings  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

SETTINGS = TrainSettings(
    scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 8}, epochs=5, seed=3
)
PATH = Path("models/e")


def members(kind: str, settings: TrainSettings = SETTINGS, count: int = 3) -> list[TrainSettings]:
    return [each for _, each in member_settings(kind, settings, PATH, members=count)]


def test_independent_members_differ_in_their_seed_alone() -> None:
    found = members("independent")
    assert [each.seed for each in found] == [3, 4, 5]
    assert found[2] == replace(SETTINGS, seed=5, split_seed=3)


def test_bagging_draws_other_training_images_and_keeps_the_validation_images() -> None:
    first, second, _ = map(load_images, members("bagging"))
    plain = load_images(SETTINGS)
    assert first.validation.x.tobytes() == second.validation.x.tobytes()
    assert first.validation.x.tobytes() == plain.validation.x.tobytes()
    assert len(first.train) == len(plain.train)
    kinds = [{image.tobytes() for image in data.train.x} for data in (first, second, plain)]
    assert kinds[0] != kinds[1] and kinds[0] < kinds[2]
    # Of n images drawn n times, 1 - 1/e are left.
    assert len(kinds[0]) / len(kinds[2]) == pytest.approx(1 - np.exp(-1), abs=0.03)


def test_snapshots_are_one_training_cut_into_cycles() -> None:
    found = members("snapshot")
    assert [each.epochs for each in found] == [2, 2, 1]
    assert [each.parent for each in found] == [None, Path("models/e-1"), Path("models/e-2")]


def test_snapshots_learn_of_one_teacher() -> None:
    learning = replace(SETTINGS, parent=Path("models/float"), distill=0.9)
    found = members("snapshot", learning)
    assert [each.teacher for each in found] == [Path("models/float")] * 3
    named = members("snapshot", replace(learning, teacher=Path("models/large")))
    assert {each.teacher for each in named} == {Path("models/large")}
    assert {each.teacher for each in members("snapshot")} == {None}


@pytest.mark.parametrize(
    ("kind", "settings", "count", "message"),
    [
        ("snapshots", SETTINGS, 3, "'snapshots' is not known; close names: snapshot"),
        ("bagging", SETTINGS, 1, "--members is 1; 2 or more"),
        ("snapshot", SETTINGS, 6, "--epochs is 5 for 6 snapshots"),
        (
            "snapshot",
            replace(SETTINGS, optimizer=OptimizerSettings(schedule="constant")),
            3,
            "--schedule is constant",
        ),
        ("snapshot", replace(SETTINGS, model="net.keras"), 3, "start from the weights of the one"),
    ],
)
def test_what_makes_no_ensemble_is_told(
    kind: str, settings: TrainSettings, count: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        members(kind, settings, count)


def test_what_stops_the_last_member_is_told_before_the_first(tmp_path: Path) -> None:
    quiet, path = Progress(quiet=True), tmp_path / "e"
    last = replace(SETTINGS, seed=MAX_SEED - 1)
    with pytest.raises(UsageError, match=f"--seed is {MAX_SEED + 1}"):
        train_ensemble("bagging", last, path, members=3, progress=quiet)
    make_run(tmp_path / "e-3")
    with pytest.raises(RunError, match="e-3: there already. Give --name"):
        train_ensemble("bagging", SETTINGS, path, members=3, progress=quiet)
    assert [entry.name for entry in tmp_path.iterdir()] == ["e-3"]


@pytest.mark.slow
def test_members_are_trained_once_and_judged_together(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2)
    quiet = Progress(quiet=True)
    runs = train_ensemble("snapshot", settings, tmp_path / "e", members=2, progress=quiet)
    assert [run.name for run in runs] == ["e-1", "e-2"]
    begun = [records.load(run) for run in runs]
    assert [(one.seed, one.split_seed) for one in begun] == [(3, 3), (4, 3)]
    assert begun[1].training is not None and begun[1].training.parent == str(runs[0])
    done = ensembles.ensemble(runs, progress=quiet)
    assert len(done.members) == 2 and set(done.accuracies) == {"mean", "logits", "vote"}
    again = train_ensemble(
        "snapshot", settings, tmp_path / "e", members=2, resume=True, progress=quiet
    )
    assert again == runs and records.load(runs[1]).created == begun[1].created

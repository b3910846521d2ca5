"""Members of an ensemble differ in what their kind says, and share their validation images."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import RunError, SchemeError, UsageError  # noqa: E402
from keras_quant.jobs import ensembles, train_together  # noqa: E402
from keras_quant.jobs.ensembles import Ensemble  # noqa: E402
from keras_quant.jobs.train import load_images, train  # noqa: E402
from keras_quant.jobs.train_ensemble import member_settings, train_ensemble  # noqa: E402
from keras_quant.jobs.train_settings import MAX_SEED, TOGETHER, TrainSettings  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.training.optimizer_settings import OptimizerSettings  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

SETTINGS = TrainSettings(
    scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 8}, epochs=5, seed=3
)
PATH = Path("models/e")
QUIET = Progress(quiet=True)


def members(kind: str, settings: TrainSettings = SETTINGS, count: int = 3) -> list[TrainSettings]:
    return [each for _, each in member_settings(kind, [settings] * count, PATH)]


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
    assert [each.teachers for each in found] == [(Path("models/float"),)] * 3
    named = members("snapshot", replace(learning, teachers=(Path("models/large"),)))
    assert {each.teachers for each in named} == {(Path("models/large"),)}
    assert {each.teachers for each in members("snapshot")} == {()}


def test_fast_geometric_cycles_begin_at_a_trained_net() -> None:
    found = members("fast-geometric", replace(SETTINGS, parent=Path("models/float")))
    assert [str(each.parent) for each in found] == ["models/float", "models/e-1", "models/e-2"]
    assert [each.epochs for each in found] == [2, 2, 1]
    assert {each.optimizer.schedule for each in found} == {"triangle"}


def test_boosted_members_learn_what_those_before_leave() -> None:
    found = members("boosting", replace(SETTINGS, shrinkage=0.5))
    one, two = Path("models/e-1"), Path("models/e-2")
    assert [each.boosts for each in found] == [(), (one,), (one, two)]
    assert {each.shrinkage for each in found} == {0.5}
    assert {each.boosts for each in members("soft-boosting")} == {None}


@pytest.mark.parametrize("kind", TOGETHER)
def test_members_that_are_trained_at_once_name_each_other(kind: str) -> None:
    found = members(kind)
    assert {each.together for each in found} == {kind}
    assert {each.members for each in found} == {tuple(Path(f"models/e-{n}") for n in (1, 2, 3))}
    assert [each.seed for each in found] == [3, 4, 5]


def test_members_may_have_models_and_bits_of_their_own() -> None:
    other = replace(SETTINGS, model="cnn", model_options={}, scheme=scheme_from_bits("8"))
    found = [each for _, each in member_settings("bagging", [SETTINGS, other, SETTINGS], PATH)]
    assert [each.model for each in found] == ["mlp", "cnn", "mlp"]
    assert [each.scheme.name for each in found] == ["w4a4", "w8a8", "w4a4"]
    with pytest.raises(UsageError, match="so all have one --model"):
        list(member_settings("snapshot", [SETTINGS, other], PATH))


@pytest.mark.parametrize(
    ("kind", "settings", "count", "message"),
    [
        ("snapshots", SETTINGS, 3, "'snapshots' is not known; close names: snapshot"),
        ("bagging", SETTINGS, 1, "--members is 1; 2 or more"),
        ("snapshot", SETTINGS, 6, "--epochs is 5 for 6 members"),
        (
            "snapshot",
            replace(SETTINGS, optimizer=OptimizerSettings(schedule="constant")),
            3,
            "--schedule is constant",
        ),
        ("snapshot", replace(SETTINGS, model="net.keras"), 3, "start from the weights of the one"),
        ("fast-geometric", SETTINGS, 3, "around a trained net: name it with --from RUN"),
        ("fusion", replace(SETTINGS, parent=Path("models/float")), 3, "begin alike stay alike"),
        ("fusion", replace(SETTINGS, precision="bf16"), 3, "--precision bf16 is for members"),
        ("fusion", replace(SETTINGS, strategy="mirrored"), 3, "--strategy mirrored is for members"),
        ("fusion", replace(SETTINGS, bootstrap=True), 3, "--bootstrap: .* see the same images"),
        ("bagging", replace(SETTINGS, shrinkage=0.5), 3, "goes with boosting and soft-boosting"),
        ("boosting", replace(SETTINGS, distill=0.5), 3, "--distill: members of boosting learn"),
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
        train_ensemble("bagging", [last] * 3, path, progress=quiet)
    no_step = [replace(SETTINGS, shrinkage=0.0)] * 3
    with pytest.raises(UsageError, match=r"--shrinkage is 0.0; above 0, up to 1"):
        train_ensemble("boosting", no_step, path, progress=quiet)
    make_run(tmp_path / "e-3")
    with pytest.raises(RunError, match="e-3: there already. Give --name"):
        train_ensemble("bagging", [SETTINGS] * 3, path, progress=quiet)
    with pytest.raises(RunError, match="e-3: is a run; give the ensemble another name"):
        train_ensemble("bagging", [SETTINGS] * 3, tmp_path / "e-3", progress=quiet)
    assert [entry.name for entry in tmp_path.iterdir()] == ["e-3"]


def test_a_teacher_that_cannot_be_loaded_is_told_before_members_have_folders(
    tmp_path: Path,
) -> None:
    learning = replace(SETTINGS, distill=0.5, teachers=(tmp_path / "nothing",))
    with pytest.raises(UsageError, match="no such run or model"):
        train_ensemble("fusion", [learning] * 2, tmp_path / "e", progress=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_what_a_member_cannot_have_is_told_before_members_have_folders(tmp_path: Path) -> None:
    free = replace(SETTINGS, method="lsq")
    binary = replace(free, scheme=scheme_from_bits("w1a4"))
    with pytest.raises(SchemeError, match="weights of 1 bit"):
        train_ensemble("fusion", [free, binary], tmp_path / "e", progress=QUIET)
    assert list(tmp_path.iterdir()) == []


def trained(kind: str, path: Path, settings: TrainSettings = SETTINGS, **options) -> Ensemble:
    """Two members of two epochs, trained and judged."""
    settings = replace(settings, epochs=2)
    assert train_ensemble(kind, [settings] * 2, path, progress=QUIET, **options) == path
    return ensembles.ensemble([path], progress=QUIET)


@pytest.mark.slow
def test_members_are_trained_once_and_judged_together(tmp_path: Path) -> None:
    done = trained("snapshot", tmp_path / "e")
    runs = [member.run for member in done.members]
    assert [run.name for run in runs] == ["e-1", "e-2"]
    begun = [records.load(run) for run in runs]
    assert [(one.seed, one.split_seed) for one in begun] == [(3, 3), (4, 3)]
    assert begun[1].training is not None and begun[1].training.parent == str(runs[0])
    assert set(done.accuracies) == {"mean", "logits", "vote"} and done.combination == "mean"
    trained("snapshot", tmp_path / "e", resume=True)
    assert records.load(runs[1]).created == begun[1].created


@pytest.mark.slow
def test_boosted_members_go_on_from_each_other_and_are_one_teacher(tmp_path: Path) -> None:
    done = trained("boosting", tmp_path / "e", replace(SETTINGS, shrinkage=0.5))
    assert [member.weight for member in done.members] == [0.5, 0.5]
    assert done.accuracies["sum"] == done.accuracies["logits"]  # equal weights order alike
    second = records.load(tmp_path / "e-2").training
    assert second is not None and second.boosts == (str(tmp_path / "e-1"),)
    one = replace(SETTINGS, epochs=1, distill=0.9, teachers=(tmp_path / "e",))
    learned = train(one, tmp_path / "one", progress=QUIET).record.training
    assert learned is not None and learned.teacher == str(tmp_path / "e")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOGETHER)
def test_members_trained_at_once_go_on_where_they_were_stopped(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(kind, tmp_path / "whole")
    assert whole.combination in whole.accuracies

    def stops_at(name: str, at: int) -> None:
        class KilledError(BaseException):
            """Stands for a kill: nothing catches it."""

        left, real = [at], getattr(train_together, name)

        def killing(*args: object, **named: object) -> object:
            left[0] -= 1
            if not left[0]:
                raise KilledError
            return real(*args, **named)

        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(train_together, name, killing)
            trained(kind, tmp_path / "e", resume=True)

    stops_at("reestimate", 2)  # the first member is finished, the second is not
    assert records.load(tmp_path / "e-1").status == "exported"
    assert records.load(tmp_path / "e-2").status == "training"
    again = trained(kind, tmp_path / "e", resume=True)
    assert again.accuracies == whole.accuracies
    assert not (tmp_path / "e-1" / "checkpoint.npz").exists()
    assert (tmp_path / "e-2" / "history.csv").exists()
    shutil.rmtree(tmp_path / "e-2")
    with pytest.raises(RunError, match=r"e-1: finished, but not trained with the other members"):
        trained(kind, tmp_path / "e", resume=True)

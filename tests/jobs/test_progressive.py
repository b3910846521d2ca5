"""Few bits by way of more, and a teacher of one's own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import RunError, SchemeError, UsageError
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.scheme import Scheme
from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.jobs import train as module  # noqa: E402
from keras_quant.jobs.progressive import train_progressively  # noqa: E402
from keras_quant.jobs.teacher import load_teacher  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

QUIET = Progress(quiet=True)
ROOT = Path(__file__).parents[2]
L = keras.layers
SCHEMES = [scheme_from_bits(bits) for bits in ("4", "3")]


def settings_of(**changes) -> TrainSettings:
    return TrainSettings(
        scheme=scheme_from_bits("4"),
        method="lsq",
        model="mlp",
        model_options={"units": 8},
        epochs=1,
        optimizer=OptimizerSettings(learning_rate=3e-3),
        **changes,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float run, and those that came of it by way of 4 bits, with all options of few bits."""
    folder = tmp_path_factory.mktemp("progressive")
    floats = dataclasses.replace(settings_of(), scheme=scheme_from_bits("float"))
    train(floats, folder / "float", progress=QUIET)
    settings = settings_of(
        parent=folder / "float", distill=0.5, accumulate=2, reestimate_norms=True
    )
    results = train_progressively(settings, stages_in(folder, SCHEMES), progress=QUIET)
    assert [result.record.scheme["name"] for result in results] == ["w4a4", "w3a3"]
    return folder


def stages_in(folder: Path, schemes: list[Scheme]) -> list[tuple[Scheme, Path]]:
    return [(scheme, folder / scheme.name) for scheme in schemes]


@pytest.mark.slow
def test_each_run_starts_from_the_last_and_keeps_the_first_teacher(folder: Path) -> None:
    training = {name: records.load(folder / name).training for name in ("w4a4", "w3a3")}
    assert training["w4a4"].parent == str(folder / "float")
    assert training["w3a3"].parent == str(folder / "w4a4")
    assert {each.teacher for each in training.values()} == {str(folder / "float")}
    assert all(each.accumulate == 2 and each.reestimate_norms for each in training.values())


@pytest.mark.slow
def test_resuming_trains_only_what_is_missing(folder: Path, monkeypatch) -> None:
    trained = []

    def fake(settings: TrainSettings, path: Path, **named) -> None:
        trained.append((path.name, named["resume"], settings.parent.name))

    monkeypatch.setattr(module, "train", fake)
    settings = settings_of(
        parent=folder / "float", distill=0.5, accumulate=2, reestimate_norms=True
    )
    schemes = [*SCHEMES, scheme_from_bits("2")]
    train_progressively(settings, stages_in(folder, schemes), resume=True, progress=QUIET)
    assert trained == [("w2a2", False, "w3a3")]
    other = dataclasses.replace(settings, seed=1)
    with pytest.raises(RunError, match="finished run with other settings"):
        train_progressively(other, stages_in(folder, SCHEMES), resume=True, progress=QUIET)
    other = dataclasses.replace(settings, preprocess="tf")
    with pytest.raises(RunError, match=r"finished run with other settings \(dataset\)"):
        train_progressively(other, stages_in(folder, SCHEMES), resume=True, progress=QUIET)


def test_a_width_that_a_method_lacks_is_told_before_the_first_is_trained(tmp_path: Path) -> None:
    widths = [scheme_from_bits(bits) for bits in ("4", "1")]
    with pytest.raises(SchemeError, match="1 bit"):
        train_progressively(settings_of(), stages_in(tmp_path, widths), progress=QUIET)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_threads_are_set_before_widths_are_tried(tmp_path: Path) -> None:
    """In a process of its own, as TensorFlow takes a number before it has computed anything."""
    words = ("--threads", "1", "--model", "mlp", "--option", "units=8", "--epochs", "1")
    done = subprocess.run(
        [sys.executable, "-m", "keras_quant", "train", "--progressive", "4,3", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "models").iterdir()} == {
        *("digits-mlp-w4a4", "digits-mlp-w3a3")
    }


def classifier(classes: int, *, softmax: bool = False) -> keras.Model:
    last = L.Dense(classes, activation="softmax" if softmax else None)
    return keras.Sequential([L.Flatten(input_shape=(8, 8, 1)), last])


@pytest.mark.slow
def test_a_teacher_is_a_run_or_a_file_and_probabilities_count_as_logits(
    folder: Path, tmp_path: Path
) -> None:
    digits = load_dataset("digits")
    images = tf.constant(digits.reals(digits.test.x[:5]))
    assert load_teacher([folder / "float"], digits)(images).shape == (5, 10)
    model = classifier(10, softmax=True)
    save_model(model, tmp_path / "teacher.keras")
    logits = load_teacher([tmp_path / "teacher.keras"], digits)(images, training=False)
    np.testing.assert_allclose(tf.nn.softmax(logits / 4), _tempered(model(images)), rtol=1e-4)


def _tempered(shares: tf.Tensor) -> np.ndarray:
    roots = np.asarray(shares, np.float64) ** (1 / 4)
    return roots / roots.sum(1, keepdims=True)


def test_a_teacher_of_other_classes_or_nothing_is_refused(tmp_path: Path) -> None:
    digits = load_dataset("digits")
    save_model(classifier(7), tmp_path / "seven.keras")
    with pytest.raises(UsageError, match=r"teacher puts out \(None, 7\); 10 classes are needed"):
        load_teacher([tmp_path / "seven.keras"], digits)
    with pytest.raises(UsageError, match="no such run or model; give the share"):
        load_teacher([tmp_path / "nothing"], digits)

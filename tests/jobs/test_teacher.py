"""Several teachers as one: what their answers become, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import ModelError, RunError, UsageError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.anytime.rules import probabilities  # noqa: E402
from keras_quant.data import Dataset, load_dataset  # noqa: E402
from keras_quant.jobs.source import build_float  # noqa: E402
from keras_quant.jobs.teacher import load_sum, load_teacher  # noqa: E402
from keras_quant.jobs.train import teacher_of  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.methods.tfmot.door import tfmot  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.runs import ensembles, records  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

FLOAT32_ROUNDING = 1e-4
L = keras.layers


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two runs; the second net ends in a softmax."""
    folder = tmp_path_factory.mktemp("teachers")
    made = []
    for seed, activation in enumerate((None, "softmax")):
        keras.utils.set_random_seed(seed)
        run = make_run(folder / f"e-{seed + 1}")
        last = L.Dense(10, activation=activation)
        save_model(keras.Sequential([L.Flatten(input_shape=(8, 8, 1)), last]), run / "model.keras")
        made.append(run)
    return tuple(made)


def answers(paths: list[Path], digits: Dataset) -> np.ndarray:
    images = tf.constant(digits.reals(digits.test.x[:5]))
    return np.asarray(load_teacher(paths, digits)(images, training=False))


def saved(runs: tuple[Path, ...], combination: str) -> Path:
    folder = runs[0].parent / combination
    given = {"kind": "boosting", "weights": (0.5, 2.0), "created": "now"}
    ensembles.save(folder, runs, combination=combination, **given)
    return folder


def test_of_several_teachers_the_mean_of_probabilities_is_learned(
    runs: tuple[Path, ...], digits: Dataset
) -> None:
    wanted = np.mean([probabilities(answers([run], digits)) for run in runs], axis=0)
    found = probabilities(answers([*runs], digits))
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32_ROUNDING)
    of_ensemble = probabilities(answers([saved(runs, "mean")], digits))
    np.testing.assert_allclose(of_ensemble, wanted, rtol=FLOAT32_ROUNDING)


@pytest.mark.parametrize(("combination", "weights"), [("sum", (0.5, 2.0)), ("logits", (0.5, 0.5))])
def test_an_ensemble_teaches_what_its_record_says(
    runs: tuple[Path, ...], digits: Dataset, combination: str, weights: tuple[float, float]
) -> None:
    first, second = (answers([run], digits) for run in runs)
    found = answers([saved(runs, combination)], digits)
    wanted = weights[0] * first + weights[1] * second
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32_ROUNDING)


def test_members_before_a_boosted_one_are_summed(runs: tuple[Path, ...], digits: Dataset) -> None:
    images = tf.constant(digits.reals(digits.test.x[:5]))
    wanted = 0.25 * sum(answers([run], digits) for run in runs)
    found = load_sum(runs, 0.25, digits)(images)
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32_ROUNDING)


def test_an_ensemble_among_runs_and_a_run_that_is_gone_are_told(
    runs: tuple[Path, ...], digits: Dataset
) -> None:
    folder = saved(runs, "vote")
    with pytest.raises(UsageError, match="vote is an ensemble; give it alone, or runs"):
        load_teacher([runs[0], folder], digits)
    with pytest.raises(UsageError, match=r"e-9: no such run or model; .* teachers: runs' folders"):
        load_teacher([runs[0], runs[0].with_name("e-9")], digits)
    (folder / ensembles.FILE_NAME).write_text("{}")
    with pytest.raises(RunError, match="Make it again: kq anytime train-ensemble"):
        load_teacher([folder], digits)


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """A run of a net that adds by an operator, which its file says as a call of a function."""
    keras.utils.set_random_seed(2)
    x = inputs = keras.Input((8, 8, 1))
    x = L.Dense(10, name="hidden")(L.Flatten()(x))
    run = make_run(tmp_path / "added")
    save_model(keras.Model(inputs, x + L.Dense(10, name="head")(x)), run / "model.keras")
    return run


def test_a_teacher_that_holds_code_is_loaded_when_trusted(added: Path, digits: Dataset) -> None:
    with pytest.raises(ModelError, match="could run code from the file: .*TFOpLambda"):
        load_teacher([added], digits)
    images = tf.constant(digits.reals(digits.test.x[:5]))
    assert load_teacher([added], digits, trust=True)(images).shape == (5, 10)


def test_weights_of_a_parent_that_holds_code_are_taken_when_trusted(
    added: Path, digits: Dataset
) -> None:
    given = {"name": str(added / "model.keras"), "options": {}, "dataset": digits, "parent": added}
    with pytest.raises(ModelError, match="could run code from the file"):
        build_float(**given)
    assert build_float(**given, trust=True).output_shape == (None, 10)


def softmax_net(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    last = L.Dense(10, activation="softmax", kernel_initializer="random_normal")
    return keras.Sequential([L.Flatten(input_shape=(8, 8, 1)), last])


def taught(digits: Dataset, source: keras.Model, **given) -> np.ndarray:
    settings = TrainSettings(scheme=scheme_from_bits("4"), distill=0.5, **given)
    teacher = teacher_of(settings, source, digits)
    return probabilities(np.asarray(teacher(tf.constant(digits.reals(digits.test.x[:5])))))


def test_a_model_that_ends_in_a_softmax_teaches_its_own_probabilities(digits: Dataset) -> None:
    model = softmax_net(3)
    wanted = np.asarray(model(tf.constant(digits.reals(digits.test.x[:5]))))
    np.testing.assert_allclose(taught(digits, model), wanted, rtol=FLOAT32_ROUNDING)


def test_a_softmax_within_a_layer_of_tfmot_is_seen(tmp_path: Path, digits: Dataset) -> None:
    model = tfmot.quantization.keras.quantize_model(softmax_net(4))
    images = tf.constant(digits.reals(digits.test.x[:5]))
    model(images, training=True)
    save_model(model, tmp_path / "quantized.keras")
    found = probabilities(answers([tmp_path / "quantized.keras"], digits))
    np.testing.assert_allclose(found, model(images), rtol=FLOAT32_ROUNDING)


@pytest.mark.parametrize("method", ["lsq", "float"])
def test_a_parent_teaches_what_its_run_answers_and_not_its_weights_in_float(
    runs: tuple[Path, ...], tmp_path: Path, digits: Dataset, method: str
) -> None:
    parent = make_run(tmp_path / "parent")
    (parent / "model.keras").write_bytes((runs[0] / "model.keras").read_bytes())
    record = records.load(parent)
    training = dataclasses.replace(record.training, method=method)
    records.save(dataclasses.replace(record, training=training), parent)
    in_float = softmax_net(5)  # stands for a model whose quantizers were taken out
    wanted = {
        "lsq": probabilities(answers([parent], digits)),
        "float": np.asarray(in_float(tf.constant(digits.reals(digits.test.x[:5])))),
    }
    found = taught(digits, in_float, parent=parent)
    np.testing.assert_allclose(found, wanted[method], rtol=FLOAT32_ROUNDING)

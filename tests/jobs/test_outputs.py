"""Models of several outputs, and such as classify nothing, through the jobs and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.export import Exported, export_path  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.logits import AnswerFunction  # noqa: E402
from keras_quant.model.metrics import psnr, ssim, top1  # noqa: E402
from keras_quant.pixels import normalize  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.lower.shapes import quantized, randomized  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-4


def trunk() -> tuple[keras.layers.Layer, keras.layers.Layer]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(6, 3, padding="same", name="conv")(inputs)
    return inputs, L.ReLU(name="relu")(x)


def two_tasks() -> keras.Model:
    """A classifier that draws what it saw, and says one thing more."""
    inputs, x = trunk()
    logits = L.Dense(10, name="logits")(L.Flatten()(x))
    drawn = L.Conv2D(1, 3, padding="same", name="drawn")(x)
    more = L.Dense(3, name="more")(L.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, [logits, drawn, more])


def autoencoder() -> keras.Model:
    inputs, x = trunk()
    x = L.ReLU(name="code")(L.Conv2D(4, 3, strides=2, padding="same", name="down")(x))
    x = L.Conv2DTranspose(1, 3, strides=2, padding="same", name="up")(x)
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def reals() -> np.ndarray:
    return normalize(load_dataset("digits").test.x, UNIT)


def saved(model: keras.Model, folder: Path, reals: np.ndarray) -> Path:
    """The model's fake-quantized twin, in a file."""
    twin = quantized(randomized(model), scheme_from_bits("w4a4"), [reals[:100]])
    save_model(twin, folder / "model.keras")
    return folder / "model.keras"


def proven_model(file: Path) -> Path:
    """The model that an export of a file beside it answers as."""
    moved = file.parent / "out" / "model.moved-biases.keras"
    return moved if moved.exists() else file


def export(file: Path, **changes: object) -> Exported:
    settings = {
        **{"dataset": "digits", "out": file.parent / "out", "images": 0, "baselines": False},
        **{"overwrite": False, "trust": False, "progress": Progress(quiet=True)},
    }
    return export_path(file, list(FORMATS.values()), **settings | changes)


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_each_output_is_proven_and_judged_by_its_task(tmp_path: Path, reals: np.ndarray) -> None:
    file = saved(two_tasks(), tmp_path, reals)
    whole = export(file)
    data = load_dataset("digits").test
    logits, drawn, _ = AnswerFunction(load_model(proven_model(file)))(reals)
    for done in whole.files:
        assert done.parity.passed
        outputs = done.parity.outputs
        assert [o.top1_agreement for o in outputs] == [1.0, None, 1.0]
        assert max(o.keras_relative for o in outputs) < FLOAT32_ROUNDING
        first, second = done.scores.values()  # the third has no task
        assert first["accuracy"] == top1(logits, data.y).mean()
        assert second["SSIM"] == pytest.approx(
            ssim(drawn, reals, span=1.0).mean(), abs=FLOAT32_ROUNDING
        )
    record = json.loads((tmp_path / "out" / "parity.json").read_text())["tflite"]
    assert [output["name"] for output in record["outputs"]] == list(whole.keras.outputs)
    assert record["scores"] == {name: dict(s) for name, s in whole.files[0].scores.items()}


@pytest.mark.slow
def test_an_autoencoder_is_proven_and_judged_by_its_images(
    tmp_path: Path, reals: np.ndarray
) -> None:
    file = saved(autoencoder(), tmp_path, reals)
    whole = export(file)
    (drawn,) = AnswerFunction(load_model(proven_model(file)))(reals)
    for done in whole.files:
        assert done.parity.passed
        assert done.parity.top1_agreement is None
        assert done.accuracy is None
        (scores,) = done.scores.values()
        assert list(scores) == ["PSNR", "SSIM", "loss"]
        wanted = psnr(drawn, reals, span=1.0).mean()
        assert scores["PSNR"] == pytest.approx(wanted, abs=FLOAT32_ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("make", [two_tasks, autoencoder])
def test_files_are_evaluated_as_keras_is(tmp_path: Path, reals: np.ndarray, make) -> None:
    file = saved(make(), tmp_path, reals)
    export(file)
    files = [tmp_path / "out" / form.file_name for form in FORMATS.values()]
    (wanted,) = evaluate(proven_model(file), dataset="digits")
    for (found,) in (evaluate(path, dataset="digits") for path in files):
        assert [o.task for o in found.outputs] == [o.task for o in wanted.outputs]
        for output, of_keras in zip(found.outputs, wanted.outputs, strict=True):
            assert output.scores == pytest.approx(of_keras.scores, abs=FLOAT32_ROUNDING)


@pytest.mark.slow
def test_commands_show_each_output(tmp_path: Path, reals: np.ndarray) -> None:
    file = saved(two_tasks(), tmp_path, reals)
    result = kq("export", file, "--dataset", "digits", "--out", tmp_path / "out", "--images", "50")
    assert result.exit_code == 0, result.stderr
    heading = next(line for line in result.stdout.splitlines() if line.startswith("answers"))
    for column in ("output", "accuracy", "SSIM", "PSNR", "top-1 Keras", "from Keras"):
        assert column in heading
    rows = [line for line in result.stdout.splitlines() if line.startswith("tflite ")]
    assert len(rows) == 1 + 3 + 1  # proof, outputs, versions
    assert "output more is neither one number a class (10 in digits)" in result.stderr
    shown = kq("evaluate", tmp_path / "out" / "model.tflite", "--dataset", "digits").stdout
    assert len(shown.splitlines()) == 1 + 3


@pytest.mark.slow
def test_labels_that_do_not_fit_are_not_written_into_files(
    tmp_path: Path, reals: np.ndarray
) -> None:
    file = saved(autoencoder(), tmp_path, reals)
    export(file, images=20)
    assert not (tmp_path / "out" / "tensorrt" / "labels.txt").exists()
    assert b"labels.txt" not in (tmp_path / "out" / "model.tflite").read_bytes()

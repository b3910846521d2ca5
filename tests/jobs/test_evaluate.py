from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings(
        "ignore:You are saving your model as an HDF5", "ignore:The .keras.constraints.serialize"
    ),
]

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.errors import DataError, ModelError, RunError, UsageError  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.lower import lower_exactly  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.pixels import normalize  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.proof.formats import FORMATS, format_of  # noqa: E402
from keras_quant.runners.litert import LiteRTRunner  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402
from tests.runners import stand_ins  # noqa: E402

DIGITS = (8, 8, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "run"
    settings = TrainSettings(
        scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 16}, epochs=1, seed=3
    )
    train(settings, path, progress=Progress(quiet=True))
    return path


@pytest.fixture
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build("lenet5", DIGITS, 10)


def save(model: keras.Model, path: Path) -> Path:
    """Writes a .keras, .h5 or exported file."""
    form = format_of(path)
    if form is not None:
        path.write_bytes(form.definition.emit(lower_exactly(model).graph))
    elif path.suffix == ".h5":
        model.save(path)
    else:
        save_model(model, path)
    return path


def test_run_answers_with_both_of_its_files(run: Path) -> None:
    keras_file, tflite_file = evaluate(run)
    assert (keras_file.file, tflite_file.file) == (
        run / "model.keras",
        run / "export" / "model.tflite",
    )
    assert (keras_file.kernels, tflite_file.kernels) == (("TensorFlow",), ("XNNPACK",))
    assert (keras_file.agreement, tflite_file.agreement) == (None, 1.0)
    assert keras_file.accuracy == tflite_file.accuracy
    assert keras_file.images == 359


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits_are_those_that_the_run_was_trained_on(run: Path, split: str) -> None:
    data = getattr(load_dataset("digits", seed=3), split)
    runner = LiteRTRunner(run / "export" / "model.tflite")
    (logits,) = runner.run({runner.inputs[0]: normalize(data.x, UNIT)}).values()
    answers = logits.argmax(axis=-1)
    for found in evaluate(run, split=split):
        assert found.images == len(data)
        assert found.accuracy == np.mean(answers == data.y)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".tflite", ".onnx"])
def test_file_is_judged_by_its_largest_output(
    tmp_path: Path, model: keras.Model, suffix: str
) -> None:
    test = load_dataset("digits").test
    answers = model.predict(normalize(test.x, UNIT), verbose=0).argmax(axis=-1)
    found = evaluate(save(model, tmp_path / f"model{suffix}"), dataset="digits")
    assert [row.accuracy for row in found] == [np.mean(answers == test.y)]


def test_run_without_a_model_says_how_to_finish_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    with pytest.raises(RunError, match="has no model yet; finish it with kq train --resume"):
        evaluate(tmp_path)


def test_run_of_a_newer_version_is_refused(run: Path, tmp_path: Path) -> None:
    record = json.loads((run / "run.json").read_text()) | {"format_version": 2}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"written by a newer kq \(format 2; .*Upgrade"):
        evaluate(tmp_path)


@pytest.mark.parametrize(
    ("name", "error", "helpful"),
    [
        ("gone", RunError, "no such run folder; give a run, a file ending with"),
        ("gone.keras", ModelError, "gone.keras: no such file"),
        ("gone.tflite", ModelError, "gone.tflite: no such file"),
        (
            "notes.txt",
            RunError,
            "is another kind of file; give a run, a file ending with",
        ),
        ("broken.keras", ModelError, "not a whole Keras model file"),
        ("broken.h5", ModelError, "not a whole Keras model file"),
        ("broken.tflite", ModelError, "not a TFLite model that LiteRT can load"),
        ("broken.onnx", ModelError, "not an ONNX model that ONNX Runtime can load"),
    ],
)
def test_path_that_is_no_model_is_explained(
    tmp_path: Path, name: str, error: type[Exception], helpful: str
) -> None:
    if not name.startswith("gone"):
        (tmp_path / name).write_bytes(b"not a model")
    with pytest.raises(error, match=helpful):
        evaluate(tmp_path / name, dataset="digits")


@pytest.mark.parametrize("suffix", [".keras", ".tflite", ".onnx"])
def test_file_cut_short_is_explained(tmp_path: Path, model: keras.Model, suffix: str) -> None:
    path = save(model, tmp_path / f"model{suffix}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=rf"model\{suffix}: not a"):
        evaluate(path, dataset="digits")


def test_unknown_split_and_missing_data_are_usage_errors(
    tmp_path: Path, model: keras.Model
) -> None:
    path = save(model, tmp_path / "model.keras")
    with pytest.raises(UsageError, match="split 'tset' is not known; splits are test, validation"):
        evaluate(path, dataset="digits", split="tset")
    with pytest.raises(UsageError, match="belongs to no run: say which data with --dataset"):
        evaluate(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".tflite", ".onnx"])
@pytest.mark.parametrize(("shape", "classes"), [((8, 8, 3), 10), ((12, 12, 1), 10), (DIGITS, 7)])
def test_data_of_another_shape_is_refused(
    tmp_path: Path, suffix: str, shape: tuple[int, int, int], classes: int
) -> None:
    path = save(build("lenet5", shape, classes), tmp_path / f"model{suffix}")
    found = "has 10 classes" if shape == DIGITS else "is needed"
    if suffix in (".keras", ".h5") and shape != DIGITS:
        found = r"takes \(None, .*; images of dataset digits are \(None, 8, 8, 1\)"
    with pytest.raises(DataError, match=found):
        evaluate(path, dataset="digits")


def test_model_with_two_inputs_is_refused(tmp_path: Path) -> None:
    inputs = [keras.Input(DIGITS, name="left"), keras.Input(DIGITS, name="right")]
    x = keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Add()(inputs)))
    path = save(keras.Model(inputs, x), tmp_path / "model.keras")
    with pytest.raises(DataError, match="takes .*; images of dataset digits are"):
        evaluate(path, dataset="digits")


def with_lambda(folder: Path) -> Path:
    image = keras.Input(DIGITS)
    x = keras.layers.Lambda(lambda x: 2 * x, name="twice")(image)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    return save(model, folder / "lambda.keras")


def with_pickle(folder: Path) -> Path:
    path = save(build("lenet5", DIGITS, 10), folder / "pickle.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/extra.pkl", b"\x80\x04.")
    return path


@pytest.mark.parametrize("make", [with_lambda, with_pickle])
def test_file_that_could_run_code_is_loaded_only_when_trusted(tmp_path: Path, make) -> None:
    path = make(tmp_path)
    with pytest.raises(ModelError, match="could run code from the file: .*--trust load it"):
        evaluate(path, dataset="digits")
    assert evaluate(path, dataset="digits", trust=True)[0].images == 359


def test_weights_of_an_onnx_file_are_read_beside_it(model: keras.Model, tmp_path: Path) -> None:
    whole = save(model, tmp_path / "whole.onnx")
    beside = {"save_as_external_data": True, "location": "weights", "size_threshold": 64}
    onnx.save(onnx.load(whole), tmp_path / "model.onnx", **beside)
    assert (tmp_path / "weights").stat().st_size > 0
    (expected,) = evaluate(whole, dataset="digits")
    (found,) = evaluate(tmp_path / "model.onnx", dataset="digits")
    assert found.outputs == expected.outputs


def test_a_runtime_that_dies_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    form = replace(FORMATS["onnx"], runner=f"{stand_ins.__name__}:DiesOfItsFirstBatch")
    monkeypatch.setattr("keras_quant.jobs.loaded.format_of", lambda path: form)
    with pytest.raises(
        ModelError, match=r"model\.onnx: the process that opened it died by SIGABRT"
    ):
        evaluate(file, dataset="digits")

"""From --preprocess of a training to the files of a board: everything is reported, and agrees."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings(
        "ignore:You are saving your model as an HDF5", "ignore:The .keras.constraints.serialize"
    ),
]

from ai_edge_litert.interpreter import Interpreter  # noqa: E402

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.emit.tflite.options import TFLiteOptions  # noqa: E402
from keras_quant.errors import DataError  # noqa: E402
from keras_quant.jobs import calibration  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.export import export_path  # noqa: E402
from keras_quant.jobs.preprocess import declare  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.pixels import normalize  # noqa: E402
from keras_quant.preprocessing import PREPROCESSINGS, UNIT  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.proof.write import Export  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
CAFFE = PREPROCESSINGS["caffe"]


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits in colours: each has three channels that differ."""
    digits = load_dataset("digits")
    path = tmp_path_factory.mktemp("data") / "colours.npz"
    tints = np.array([1.0, 0.7, 0.4])
    arrays = {}
    for name, split in (("train", digits.train), ("val", digits.validation), ("test", digits.test)):
        arrays[f"x_{name}"] = (split.x * tints).astype(np.uint8)
        arrays[f"y_{name}"] = split.y
    np.savez(path, **arrays)
    return path


def settings_of(data: Path, preprocess: str | None, **changes: object) -> TrainSettings:
    return TrainSettings(
        scheme=scheme_from_bits("w4a8"),
        model="mlp",
        model_options={"units": 32},
        dataset=str(data),
        epochs=2,
        preprocess=preprocess,
        **changes,
    )


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "caffe"
    train(settings_of(data, "caffe"), path, progress=Progress(quiet=True))
    return path


@pytest.fixture(scope="module")
def exports(run: Path) -> dict[str, Export]:
    """All files of the run; that of TFLite takes uint8."""
    formats = [FORMATS["tflite"].with_options(TFLiteOptions(input="uint8"))]
    formats += [FORMATS["onnx"], FORMATS["tensorrt"]]
    done = export_path(
        run,
        formats,
        dataset=None,
        out=None,
        images=0,
        baselines=False,
        overwrite=True,
        trust=False,
        progress=Progress(quiet=True),
    )
    return {export.format: export for export in done.files}


@pytest.mark.slow
def test_the_run_keeps_it_and_evaluates_with_it(run: Path, exports: dict[str, Export]) -> None:
    assert records.load(run).dataset.preprocess == CAFFE
    said: list[str] = []
    rows = evaluate(run, say=said.append)
    assert len(rows) == 4 and said == []
    # The files take pixels, or what caffe makes of them; they answer as one.
    assert {row.accuracy for row in rows} == {rows[0].accuracy}
    assert [row.agreement for row in rows] == [None, 1.0, 1.0, 1.0]


def test_every_file_is_proven_code_by_code(exports: dict[str, Export]) -> None:
    for export in exports.values():
        assert export.parity.passed and export.parity.codes_compared > 0
        assert export.parity.codes_different == 0
        assert export.parity.keras_top1_agreement == 1


def test_uint8_is_raw_pixels(run: Path, data: Path, exports: dict[str, Export]) -> None:
    pixels = load_dataset(str(data)).test.x
    interpreter = Interpreter(str(exports["tflite"].path))
    (given,), (gives,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == np.uint8 and given["quantization"] == (1.0, 0)
    interpreter.resize_tensor_input(given["index"], pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], pixels)
    interpreter.invoke()
    logits = load_model(run / "model.keras").predict(normalize(pixels, CAFFE), verbose=0)
    found = interpreter.get_tensor(gives["index"])
    np.testing.assert_array_equal(found.argmax(-1), logits.argmax(-1))
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["onnx", "tensorrt"])
def test_a_file_tells_it_away_from_its_run(
    data: Path, tmp_path: Path, exports: dict[str, Export], name: str
) -> None:
    alone = tmp_path / "model.onnx"
    shutil.copy(exports[name].path, alone)
    (row,) = evaluate(alone, dataset=str(data))
    assert row.preprocess == CAFFE and row.accuracy == exports[name].accuracy
    said: list[str] = []
    evaluate(alone, dataset=str(data), preprocess="unit", say=said.append)
    assert said[0].startswith("--preprocess unit; it was made with caffe: (pixel - (103.939")


@pytest.mark.slow
def test_a_keras_file_tells_it_by_its_grid(data: Path, tmp_path: Path, run: Path) -> None:
    alone = tmp_path / "model.keras"
    shutil.copy(run / "model.keras", alone)
    said: list[str] = []
    (row,) = evaluate(alone, dataset=str(data), say=said.append)
    assert row.preprocess == CAFFE
    assert said[0].endswith("found in layer input_quant (InputGrid)")


def test_the_folder_for_a_board_tells_it(run: Path, data: Path, exports: dict[str, Export]) -> None:
    folder = exports["tensorrt"].path.parent
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["preprocess"] == {
        "name": "caffe",
        "mean": [103.939, 116.779, 123.68],
        "std": [1.0],
        "order": "bgr",
    }
    (given,) = manifest["inputs"]
    pixels, samples = np.load(folder / given["pixels"]), np.load(folder / given["samples"])
    np.testing.assert_array_equal(pixels, load_dataset(str(data)).test.x[:8])
    np.testing.assert_array_equal(normalize(pixels, CAFFE), samples)
    readme = (folder / "README.md").read_text()
    assert "of pixels it is caffe: (pixel - (103.939, 116.779, 123.68))" in readme
    assert "channels in the order BGR" in readme


@pytest.mark.slow
def test_a_child_takes_what_its_parent_took(run: Path, data: Path, tmp_path: Path) -> None:
    progress = Lines()
    train(settings_of(data, None, parent=run), tmp_path / "child", progress=progress)
    assert records.load(tmp_path / "child").dataset.preprocess == CAFFE
    progress = Lines()
    train(settings_of(data, "unit", parent=run), tmp_path / "other", progress=progress)
    assert records.load(tmp_path / "other").dataset.preprocess == UNIT
    assert any(
        line.startswith("--preprocess unit; it was made with caffe") for line in progress.said
    )


def test_statistics_of_other_reals_are_refused(run: Path, data: Path) -> None:
    planned, source = object(), object()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "check_statistics", lambda *arguments, **words: None)
        for asked, refused in (("caffe", False), ("tf", True)):
            dataset = declare(load_dataset(str(data)), asked=asked)
            if refused:
                with pytest.raises(DataError, match="with another --preprocess than tf: "):
                    calibration.read_statistics(run / "statistics.npz", planned, source, dataset)
            else:
                calibration.read_statistics(run / "statistics.npz", planned, source, dataset)


@pytest.mark.slow
def test_a_tutorials_model_is_fed_what_its_rescaling_takes(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    digits = load_dataset("digits")
    layers = [keras.Input((8, 8, 1)), L.Rescaling(1 / 255), L.Flatten(), L.Dense(10)]
    model = keras.Sequential(layers)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    pixels = digits.train.x.astype(np.float32)
    model.fit(pixels, digits.train.y, epochs=8, verbose=0)
    save_model(model, tmp_path / "tutorial.keras")
    said: list[str] = []
    (row,) = evaluate(tmp_path / "tutorial.keras", dataset="digits", say=said.append)
    answers = model.predict(digits.test.x.astype(np.float32), verbose=0).argmax(-1)
    assert row.accuracy == np.mean(answers == digits.test.y) > 0.6
    assert said == [
        f"the model takes raw: pixel, 0 to 255: found in layer {layers[1].name} (Rescaling)"
    ]


@pytest.mark.slow
def test_a_net_of_raw_pixels_is_told_to_guess_and_what_would_help(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    digits = load_dataset("digits")
    # Trained on 0 to 255; of 0 to 1 nothing but its biases is left.
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits.train.x.astype(np.float32), digits.train.y, epochs=8, verbose=0)
    weights = model.get_weights()
    model.set_weights([weights[0], np.arange(10) * 3.0])
    save_model(model, tmp_path / "published.keras")
    said: list[str] = []
    (row,) = evaluate(tmp_path / "published.keras", dataset="digits", say=said.append)
    assert row.accuracy < 0.2 and row.warning
    assert "is that of guessing" in said[0] and "on the first 200 images: raw " in said[0]
    (row,) = evaluate(tmp_path / "published.keras", dataset="digits", preprocess="raw")
    assert row.accuracy > 0.6 and row.warning == ""


@pytest.mark.slow
def test_vectors_go_the_whole_way(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.normal(size=(120, 7)) + 3 * np.eye(3, 7)[y]
    np.savez(tmp_path / "set.npz", x_train=x[:90], y_train=y[:90], x_test=x[90:], y_test=y[90:])
    run = tmp_path / "run"
    train(settings_of(tmp_path / "set.npz", None), run, progress=Progress(quiet=True))
    assert records.load(run).dataset.input_shape == (7,)
    done = export_path(
        run,
        list(FORMATS.values()),
        dataset=None,
        out=None,
        images=0,
        baselines=False,
        overwrite=True,
        trust=False,
        progress=Progress(quiet=True),
    )
    assert [export.parity.codes_different for export in done.files] == [0, 0, 0]

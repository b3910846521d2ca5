"""`kq quantize` as a user calls it, and what other commands then do with the run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5"),
]

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.records import RunRecord  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
DONE, FAILED, USAGE = 0, 1, 2


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of pixels of 0 to 255 with a ReLU between its convolutions and its batch norms."""
    keras.utils.set_random_seed(0)
    digits = load_dataset("digits")
    layers = [
        L.Conv2D(8, 3, activation="relu", name="conv1", input_shape=(8, 8, 1)),
        L.BatchNormalization(name="norm1"),
        L.Conv2D(8, 3, activation="relu", name="conv2"),
        L.Flatten(name="flat"),
        L.Dense(10, activation="softmax", name="logits"),
    ]
    model = keras.Sequential(layers, name="net")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(digits.train.x.astype(np.float32), digits.train.y, epochs=6, verbose=0)
    path = tmp_path_factory.mktemp("net") / "net.h5"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def done(net: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("models")
    digits = ("--dataset", "digits", "--preprocess", "raw")
    result = kq("quantize", net, *digits, "--to", "tflite,onnx,tensorrt", "--out", out)
    return out / "digits-net-w8a8", result


@pytest.fixture
def run(done: tuple[Path, Result]) -> Path:
    assert done[1].exit_code == DONE, done[1].output
    return done[0]


def figures_of(record: RunRecord) -> dict[tuple[str, str], float]:
    return {(figure.name, figure.notes): figure.value for figure in record.figures}


def test_three_files_are_proven_and_shown_beside_float(
    run: Path, done: tuple[Path, Result]
) -> None:
    parity = json.loads((run / "export" / "parity.json").read_text())
    assert {name: record["passed"] for name, record in parity.items()} == {
        "tflite": True,
        "onnx": True,
        "tensorrt": True,
    }
    assert [parity[name]["codes_different"] for name in ("tflite", "onnx")] == [0, 0]
    for line in ("accuracy, float model", "agreement, float and quantized", "codes compared"):
        assert line in done[1].stdout
    figures = figures_of(records.load(run))
    assert figures["accuracy", "float model"] > 80
    assert figures["top-1 agreement", "float and quantized"] > 95
    assert figures["root mean square difference", "float and quantized"] < 5
    accuracies = {
        v for (name, notes), v in figures.items() if name == "accuracy" and "file" in notes
    }
    assert accuracies == {figures["accuracy", "Keras model"]}


def test_the_run_is_recorded_as_one_without_training(run: Path, net: Path) -> None:
    record = records.load(run)
    assert record.training is None and record.status == "exported"
    assert record.quantization is not None
    assert (record.quantization.source, record.quantization.images) == (str(net), 1024)
    assert record.dataset.has_labels and record.dataset.preprocess.name == "raw"
    assert not (run / "history.csv").exists()
    assert (run / "statistics.npz").is_file() and (run / "scheme.yaml").is_file()


@pytest.mark.slow
def test_other_commands_take_the_run(run: Path, tmp_path: Path) -> None:
    rows = json.loads(kq("evaluate", run, "--json").stdout)
    assert [row["outputs"][0]["agreement"] for row in rows] == [None, 1, 1, 1]
    graph = kq("inspect", run, "--graph")
    assert graph.exit_code == DONE and "depthwise_conv2d" in graph.stdout
    export = kq("export", run, "--to", "onnx", "--images", 50, "--out", tmp_path / "out")
    assert export.exit_code == DONE, export.output
    assert "biases of" not in export.stderr  # the run's model was moved already


@pytest.mark.slow
def test_other_bits_are_chosen_from_kept_statistics(run: Path, net: Path, tmp_path: Path) -> None:
    digits = ("--dataset", "digits", "--preprocess", "raw", "--out", tmp_path)
    known = ("--statistics", run / "statistics.npz")
    result = kq("quantize", net, *digits, *known, "--bits", "w4a8", "--set", "conv2=w8", "--json")
    assert result.exit_code == DONE, result.output
    assert "calibrating" not in result.stderr
    content = json.loads(result.stdout)
    assert content["record"]["scheme"]["name"] == "w4a8+set"
    assert content["parity"]["tflite"]["codes_different"] == 0


@pytest.mark.slow
def test_equalized_and_rounded_for_answers_and_again_from_its_statistics(
    net: Path, tmp_path: Path
) -> None:
    digits = ("--dataset", "digits", "--preprocess", "raw", "--out", tmp_path, "--bits", "w4a8")
    wanted = ("--equalize", "activations", "--rounding", "descent", "--calibrator", "entropy")
    first = kq("quantize", net, *digits, *wanted, "--name", "first", "--json")
    assert first.exit_code == DONE, first.output
    assert "equalizing channels" in first.stderr and "rounding kernels" in first.stderr
    known = ("--statistics", tmp_path / "first" / "statistics.npz", "--rounding", "descent")
    again = kq("quantize", net, *digits, *known, "--name", "again", "--json")
    assert again.exit_code == DONE, again.output
    assert "equalizing" not in again.stderr and "calibrating" not in again.stderr
    for result, equalize in ((first, "activations"), (again, "as the statistics say")):
        content = json.loads(result.stdout)
        assert content["parity"]["tflite"]["codes_different"] == 0
        assert content["record"]["quantization"]["equalize"] == equalize
        assert content["record"]["quantization"]["rounding"] == "descent"
    scales = np.load(tmp_path / "again" / "statistics.npz")["scales/0"]
    np.testing.assert_array_equal(
        scales, np.load(tmp_path / "first" / "statistics.npz")["scales/0"]
    )


def test_remedies_that_are_none_are_all_named(net: Path, tmp_path: Path) -> None:
    wrong = ("--equalize", "activation", "--rounding", "up", "--bias", "x", "--out", tmp_path)
    result = kq("quantize", net, "--dataset", "digits", *wrong)
    assert result.exit_code == USAGE
    for text in (
        "close names: activations",
        "--rounding is 'up'; nearest, descent, adaround, blocks",
        "--bias is",
    ):
        assert text in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_is_quantized_with_what_it_knows_of_its_data(run: Path, tmp_path: Path) -> None:
    trained = tmp_path / "base"
    made = kq(
        "train",
        "--method",
        "float",
        "--model",
        "mlp",
        "--epochs",
        1,
        "--out",
        tmp_path,
        "--name",
        "base",
    )
    assert made.exit_code == DONE, made.output
    result = kq("quantize", trained, "--out", tmp_path, "--calibrator", "minmax")
    assert result.exit_code == DONE, result.output
    record = records.load(tmp_path / "base-w8a8")
    assert record.dataset.name == "digits" and record.quantization.calibrator == "minmax"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as pictures that nothing says the class of, larger than the net takes them."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    folder.mkdir()
    for number, image in enumerate(load_dataset("digits").train.x[:200]):
        Image.fromarray(image[..., 0]).resize((16, 16)).save(folder / f"{number}.png")
    return folder


@pytest.mark.slow
def test_without_labels_files_are_proven_and_float_is_what_is_compared_with(
    net: Path, pictures: Path, tmp_path: Path
) -> None:
    asked = ("--dataset", pictures, "--preprocess", "raw", "--out", tmp_path, "--name", "run")
    result = kq("quantize", net, *asked, "--to", "tflite,tensorrt")
    assert result.exit_code == DONE, result.output
    assert "images without labels, so that no accuracy can be shown" in result.stderr
    assert "accuracy" not in result.stdout
    assert "agreement, float and quantized" in result.stdout
    record = records.load(tmp_path / "run")
    assert (record.dataset.has_labels, record.dataset.num_classes) == (False, 0)
    figures = figures_of(record)
    assert not [name for name, _ in figures if name in ("accuracy", "loss")]
    assert figures["top-1 agreement", "float and quantized"] > 90
    assert figures["root mean square difference", "float and quantized"] > 0

    evaluated = kq("evaluate", tmp_path / "run")
    assert evaluated.exit_code == DONE, evaluated.output
    assert "accuracy" not in evaluated.stdout and "100.00%" in evaluated.stdout
    exported = kq("export", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "out")
    assert exported.exit_code == DONE, exported.output
    assert "images without labels" in exported.stderr
    np.save(tmp_path / "images.npy", load_dataset("digits").test.x)
    alone = kq("evaluate", net, "--dataset", tmp_path / "images.npy")
    assert alone.exit_code == FAILED and "has no labels" in alone.stderr


def test_nothing_that_tells_classes_apart_is_trained_without_labels(
    pictures: Path, tmp_path: Path
) -> None:
    result = kq("train", "--dataset", pictures, "--out", tmp_path)
    assert result.exit_code == FAILED
    assert "images without labels" in result.stderr and "one folder a class" in result.stderr
    assert not list(tmp_path.iterdir())


DIGITS = ("--dataset", "digits")


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("NET",), USAGE, "belongs to no run: say which data with --dataset"),
        (("NET", "--dataset", "digit"), FAILED, "no dataset 'digit'; close names: digits"),
        (("NET", "--dataset", "COLOURS"), FAILED, r"takes (None, 8, 8, 1); images of dataset"),
        (("NET", *DIGITS, "--bits", "w9a8"), USAGE, "bits are 1 to 8"),
        (("NET", *DIGITS, "--bits", "float"), USAGE, "kq export writes float models"),
        (("NET", *DIGITS, "--set", "conv9=w4"), USAGE, "'conv9' matches none of 5 layers"),
        (("NET", *DIGITS, "--images", 0), USAGE, "--images is 0; 1 or more is allowed"),
        (("NET", *DIGITS, "--calibrator", "msee"), USAGE, "calibrator 'msee' is not known"),
        (("NET", *DIGITS, "--from", "RUN"), USAGE, "--from is for models that are built by name"),
        (
            ("resnet21", *DIGITS, "--weights", "w.h5"),
            USAGE,
            "resnet21 is none; close names: resnet",
        ),
        (("NET", *DIGITS, "--option", "units=3"), USAGE, "--option is for models of the zoo"),
        (("NET", *DIGITS, "--to", "coreml"), USAGE, "coreml"),
        (("NET", *DIGITS, "--preprocess", "caffe"), FAILED, "channel"),
        (("cnn", *DIGITS), USAGE, "built without weights: give a run that has them, --from RUN"),
        (("nothing.h5", *DIGITS), FAILED, "nothing.h5"),
        (("nothing", *DIGITS), FAILED, "no such run or model"),
        (
            ("NET", *DIGITS, "--statistics", "nothing.npz"),
            FAILED,
            "nothing.npz: no such file; give the st",
        ),
        (
            ("RUN", "--name", "TAKEN", "--overwrite"),
            USAGE,
            "lies in the run that would be replaced",
        ),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_what_does_not_go_is_said_and_nothing_is_made(
    arguments: tuple[object, ...], code: int, problem: str, run: Path, net: Path, tmp_path: Path
) -> None:
    pixels, labels = np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 2
    parts = {"x_train": pixels, "y_train": labels, "x_test": pixels, "y_test": labels}
    np.savez(tmp_path / "colours.npz", **parts)
    taken = tmp_path / "models" / "taken"
    shutil.copytree(run, taken)
    names = {"NET": net, "RUN": taken, "COLOURS": tmp_path / "colours.npz", "TAKEN": "taken"}
    given = [names.get(word, word) for word in arguments]
    result = kq("quantize", *given, "--out", tmp_path / "models")
    assert result.exit_code == code, result.output
    assert problem in result.stderr
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["taken"]


@pytest.mark.slow
def test_a_run_of_that_name_is_kept_unless_it_is_to_be_replaced(
    run: Path, net: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "digits-net-w8a8")
    asked = (net, *DIGITS, "--preprocess", "raw", "--out", tmp_path, "--images", 16)
    before = (tmp_path / "digits-net-w8a8" / "run.json").read_bytes()
    refused = kq("quantize", *asked)
    assert refused.exit_code == FAILED and "--overwrite" in refused.stderr
    assert (tmp_path / "digits-net-w8a8" / "run.json").read_bytes() == before
    replaced = kq("quantize", *asked, "--overwrite")
    assert replaced.exit_code == DONE, replaced.output
    assert records.load(tmp_path / "digits-net-w8a8").quantization.images == 16


def test_statistics_of_another_model_are_refused(run: Path, net: Path, tmp_path: Path) -> None:
    other = keras.models.load_model(net, compile=False)
    other.get_layer("conv1").bias.assign_add(np.ones(8))
    other.save(tmp_path / "other.h5")
    known = ("--statistics", run / "statistics.npz")
    result = kq(
        "quantize", tmp_path / "other.h5", *DIGITS, "--preprocess", "raw", *known, "--out", tmp_path
    )
    assert result.exit_code == FAILED
    assert "the statistics are of another model" in result.stderr

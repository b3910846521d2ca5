"""`kq quantize` with each of its remedies, the whole way to files that are proven."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5"),
]

from click.testing import CliRunner, Result  # noqa: E402

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.jobs import quantize as job  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
DONE, FAILED, USAGE, GATE = 0, 1, 2, 3
LEARNED = ("--rounding-steps", "20")
# What is said on the screen beside each.
REMEDIES: dict[str, tuple[tuple[str, ...], str]] = {
    "adaround": (("--bits", "w4a8", "--rounding", "adaround", *LEARNED), "layer by layer"),
    "blocks": (
        ("--bits", "w4a4", "--rounding", "blocks", "--qdrop", "0.5", *LEARNED),
        "block by block",
    ),
    "max-drop": (("--bits", "w2a8", "--max-drop", "2"), "to 8 bits: from"),
    "no data": (("--data", "none"), "no image was looked at"),
    "no data, equalized": (
        ("--data", "none", "--equalize", "weights", "--absorb"),
        "high biases absorbed",
    ),
    "norms": (("--reestimate-norms",), "batch norms again"),
}


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small residual net of digits, with batch norms."""
    keras.utils.set_random_seed(0)
    digits = load_dataset("digits")
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv1")(x)
    x = y = L.ReLU(name="relu1")(L.BatchNormalization(name="bn1")(x))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv2")(x)
    x = L.ReLU(name="relu2")(L.BatchNormalization(name="bn2")(x))
    x = L.Conv2D(8, 1, use_bias=False, name="conv3")(x)
    x = L.BatchNormalization(name="bn3")(x)
    x = L.ReLU(name="relu3")(L.Add(name="add")([x, y]))
    x = L.Flatten(name="flat")(L.MaxPooling2D(name="pool")(x))
    model = keras.Model(inputs, L.Dense(10, name="logits")(x), name="net")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(digits.train.x / np.float32(255), digits.train.y, epochs=5, verbose=0)
    path = tmp_path_factory.mktemp("net") / "net.keras"
    model.save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("remedy", REMEDIES)
def test_files_are_proven_after_each_remedy(net: Path, tmp_path: Path, remedy: str) -> None:
    options, said = REMEDIES[remedy]
    digits = ("--dataset", "digits", "--preprocess", "unit", "--out", tmp_path, "--name", "run")
    result = kq("quantize", net, *digits, *options, "--to", "tflite,onnx", "--json")
    assert result.exit_code == DONE, result.output
    assert said in result.stderr
    content = json.loads(result.stdout)
    assert {n: p["codes_different"] for n, p in content["parity"].items()} == {
        "tflite": 0,
        "onnx": 0,
    }
    figures = {(f["name"], f["notes"]): f["value"] for f in content["record"]["figures"]}
    assert figures["accuracy", "float model"] > 90
    assert figures["accuracy", "Keras model"] > figures["accuracy", "float model"] - 5
    assert not (tmp_path / "run" / "rounding").exists()
    quantization = content["record"]["quantization"]
    if remedy == "max-drop":
        assert quantization["lost"] <= 2 and quantization["held_out"] > 0
        names = [lift["layer"] for lift in quantization["lifts"]]
        rules = content["record"]["scheme"]["rules"]
        assert names and [rule["match"] for rule in rules[-len(names) :]] == names
    if remedy.startswith("no data"):
        assert (quantization["data"], quantization["images"]) == ("none", 0)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_where_it_was(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = ("--dataset", "digits", "--preprocess", "unit", "--out", tmp_path, "--name", "run")
    wanted = ("--bits", "w4a8", "--rounding", "adaround", *LEARNED, *digits)

    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "finish", stop)
        assert kq("quantize", net, *wanted).exit_code not in (DONE, USAGE)
    assert (tmp_path / "run" / "rounding").is_dir()
    refused = kq("quantize", net, *wanted)
    assert refused.exit_code == FAILED and "--resume to go on with it" in refused.stderr
    other = kq("quantize", net, *wanted, "--qdrop", "0.5", "--resume")
    assert other.exit_code == FAILED and "these differ: quantization" in other.stderr
    result = kq("quantize", net, *wanted, "--resume")
    assert result.exit_code == DONE, result.output
    assert "4 of 4 kernels had been rounded before" in result.stderr
    assert "calibrating" not in result.stderr
    record = records.load(tmp_path / "run")
    assert record.status == "exported"
    finished = kq("quantize", net, *wanted, "--resume")
    assert finished.exit_code == FAILED and "that run is finished" in finished.stderr


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (("--rounding", "adaround", "--rounding-steps", "0"), ["--rounding-steps is 0"]),
        (("--rounding", "blocks", "--qdrop", "1"), ["--qdrop is 1; 0 up to, but not, 1"]),
        (
            ("--qdrop", "0.5"),
            ["--qdrop: only of a rounding that is learned", "--rounding adaround"],
        ),
        (("--max-drop", "-1"), ["--max-drop is -1 points"]),
        (("--data", "non"), ["close names: none"]),
        (
            ("--data", "none", "--rounding", "descent", "--equalize", "activations"),
            ["--rounding descent looks at images", "--equalize activations looks at images"],
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_go_together_is_said(
    options: tuple[str, ...], texts: list[str], tmp_path: Path
) -> None:
    result = kq("quantize", "net.h5", "--dataset", "digits", *options, "--out", tmp_path)
    assert result.exit_code == USAGE
    for text in texts:
        assert text in result.stderr
    assert not list(tmp_path.iterdir())

"""The undamaged files: runs, models, data and schemes, as small as they can be.

python -m tests.fuzz.originals FOLDER
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from click.testing import CliRunner
from PIL import Image

from tests.bench.test_engine import TIMES, some_engine
from tests.fuzz.kinds import SENSITIVITY
from tests.fuzz.mutators.sources import SOURCE
from tests.staged_runs import make_staged_run

DATA_FOLDER = "named"  # where datasets that have a name are looked for
CLASSES, SIDE = 3, 8
SCHEME = """\
format: 1
name: mixed
description: each key that a scheme knows
rules:
  - match: conv1
    weight: {bits: 4, narrow_range: true, per_channel: true}
    activation: {bits: 4, power_of_two: true, symmetric: false}
    input: {bits: 8}
  - match: "type:*Conv2D"
    weight: ternary
    optional: true
    method: qkeras
  - match: "*"
    weight: {bits: 4}
    activation: {bits: 4}
float: [logits]
"""
_KERAS3 = f"""
import keras
image = keras.Input(({SIDE}, {SIDE}, 1))
x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
inner = keras.Sequential([keras.Input((144,)), keras.layers.Dense(5, activation="relu")])
x = keras.layers.Dense({CLASSES})(inner(keras.layers.Flatten()(x)))
model = keras.Model(image, x)
model.save("keras3.keras")
model.save("keras3.h5")
"""


def make() -> None:
    """Writes all of them into the current folder."""
    _write_data()
    Path("net.py").write_text(SOURCE)
    Path("scheme.yaml").write_text(SCHEME)
    Path("layers.json").write_text(some_engine())
    rows = [{"name": name, "averageMs": ms} for name, ms in TIMES]
    Path("profile.json").write_text(json.dumps(rows))
    subprocess.run([sys.executable, "-c", _KERAS3], check=True, env=_with_keras3())
    of_net = ("--model", "net.py:build", "--dataset", "data.npz")
    _kq("train", *of_net, "--method", "float", "--epochs", "1", "--name", "float")
    _kq("train", *of_net, "--bits", "4", "--epochs", "1", "--name", "run")
    _kq("export", "models/run", "--to", "tflite,onnx,tensorrt", "--float", "--overwrite")
    _kq("quantize", "models/float", "--name", "quantized")
    _kq("sensitivity", "models/float", *SENSITIVITY)
    _kq("explain", "models/run", "--float", "models/float", "--maps", "1")
    _stop_after_an_epoch(*of_net, "--bits", "4", "--epochs", "2", "--name", "stopped")
    _write_hdf5()
    _write_staged()


def _write_data() -> None:
    random = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        return random.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)

    def split(name: str, train: int, test: int, **more: Any) -> None:
        np.savez(
            name,
            x_train=images(train),
            y_train=np.arange(train) % CLASSES,
            x_test=images(test),
            y_test=np.arange(test) % CLASSES,
            **more,
        )

    split("data.npz", 48, 12)
    Path(DATA_FOLDER).mkdir()
    split(f"{DATA_FOLDER}/mnist.npz", 48, 12)
    np.save("images.npy", images(40))
    for label in range(CLASSES):
        folder = Path("photos") / f"class{label}"
        folder.mkdir(parents=True)
        for number, pixels in enumerate(images(12)[..., 0]):
            suffix = (".png", ".jpg", ".bmp")[number % 3]
            Image.fromarray(pixels).save(folder / f"{number}{suffix}")


def _write_hdf5() -> None:
    """The float model in the files of Keras 2 beside .keras."""
    from keras_quant.model.files import load_model

    model = load_model("models/float/model.keras")
    model.save("keras2.h5")
    model.save_weights("keras2.weights.h5")


def _write_staged() -> None:
    """A run with stages, and what it learned of two views."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 10
    for name in ("left.npz", "right.npz"):
        x = random.integers(0, 256, (60, SIDE, SIDE, 1), np.uint8)
        np.savez(name, x_train=x[:40], y_train=labels[:40], x_test=x[40:], y_test=labels[40:])
    _kq(
        "anytime", "concat", str(make_staged_run(Path("staged"))), "left.npz", "--view", "right.npz"
    )


def _stop_after_an_epoch(*options: str) -> None:
    from keras_quant.training import checkpoint

    save: Callable[..., None] = checkpoint.save

    def save_and_stop(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with mock.patch.object(checkpoint, "save", save_and_stop):
        _kq("train", *options, exit_code=130)
    shutil.copy("models/run/history.csv", "models/stopped/history.csv")  # of one epoch too


def _kq(*arguments: str, exit_code: int = 0) -> None:
    from keras_quant.cli.main import main

    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == exit_code, (arguments, result.output)


def _with_keras3() -> dict[str, str]:
    return {**os.environ, "TF_USE_LEGACY_KERAS": "0", "CUDA_VISIBLE_DEVICES": ""}


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    make()

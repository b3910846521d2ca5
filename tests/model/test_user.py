from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.errors import ModelError, UsageError
from keras_quant.model.user import build_from_file

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

MODULE = """
import tensorflow as tf

def build_net(input_shape, num_classes):
    inputs = tf.keras.Input(input_shape)
    x = tf.keras.layers.Flatten()(inputs)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(num_classes)(x))

def small(input_shape, num_classes):
    return build_net((2, 2, 1), num_classes)

def two_inputs(input_shape, num_classes):
    inputs = [tf.keras.Input(input_shape), tf.keras.Input(input_shape)]
    return tf.keras.Model(inputs, tf.keras.layers.Add()(inputs))

def unbuilt(input_shape, num_classes):
    return tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(num_classes)])

def nothing(input_shape, num_classes):
    pass

def broken(input_shape, num_classes):
    raise ValueError("no idea")

def leaves(input_shape, num_classes):
    raise SystemExit(0)

class Own(BaseException):
    pass

def throws(input_shape, num_classes):
    raise Own("no Exception")

def stopped(input_shape, num_classes):
    raise KeyboardInterrupt
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(MODULE)
    return path


def test_model_of_the_users_file_is_built(file: Path) -> None:
    assert build_from_file(f"{file}:build_net", (4, 4, 1), 5).output_shape == (None, 5)


def test_a_sequential_model_gets_the_shape_of_the_data(file: Path) -> None:
    model = build_from_file(f"{file}:unbuilt", (4, 4, 1), 5)
    assert (model.input_shape, model.output_shape) == ((None, 4, 4, 1), (None, 5))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("bild_net", "has no function 'bild_net'; close names: build_net"),
        ("small", r"takes \(2, 2, 1\); inputs of \(4, 4, 1\) do not fit it"),
        ("two_inputs", "has 2 inputs; kq trains one.*lower_exactly"),
        ("nothing", "returned builtins.NoneType; a Keras 2 model is needed"),
        ("broken", "net.py:broken failed: ValueError: no idea"),
        ("leaves", r"net.py:leaves called sys.exit\(0\); kq needs the model .*__main__"),
        ("throws", "net.py:throws failed: Own: no Exception"),
    ],
)
def test_unusable_function_is_told(file: Path, function: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_from_file(f"{file}:{function}", (4, 4, 1), 5)


def test_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file .*absent.py"):
        build_from_file(f"{tmp_path}/absent.py:build", (4, 4, 1), 5)
    (tmp_path / "script.py").write_text("import sys; sys.exit()")
    with pytest.raises(ModelError, match=r"script.py called sys.exit\(\); kq needs the model"):
        build_from_file(f"{tmp_path}/script.py:build", (4, 4, 1), 5)
    (tmp_path / "broken.py").write_text("def build(:")
    with pytest.raises(ModelError, match="broken.py failed: SyntaxError"):
        build_from_file(f"{tmp_path}/broken.py:build", (4, 4, 1), 5)


def test_an_interrupt_in_the_users_file_stays_one(file: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_from_file(f"{file}:stopped", (4, 4, 1), 5)


@pytest.mark.parametrize("reference", ["net.py", "net:build", "net.py:", "net.py:a b"])
def test_reference_of_another_form_is_refused(reference: str) -> None:
    with pytest.raises(UsageError, match="give FILE.py:FUNCTION"):
        build_from_file(reference, (4, 4, 1), 5)

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow


def run(code: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if "LEGACY_KERAS" not in key}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_keras_2_is_tf_keras_whatever_the_environment() -> None:
    done = run("from keras_quant.tf import keras, tf; assert tf.keras.Model is keras.Model")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tensorflow_imported_with_keras_3_is_refused() -> None:
    done = run("import tensorflow as tf; tf.keras.Model; import keras_quant.tf")
    assert "UsageError: TensorFlow was imported before keras_quant" in done.stderr


@pytest.mark.slow
def test_tensorflow_imported_by_the_way_with_keras_3_is_refused() -> None:
    done = run(
        "import tensorflow, os; os.environ['TF_USE_LEGACY_KERAS'] = '1'; import keras_quant.tf"
    )
    assert "UsageError: TensorFlow was imported before keras_quant" in done.stderr


@pytest.mark.slow
def test_float_models_need_no_qkeras() -> None:
    code = """
import sys
sys.modules["qkeras"] = None
from keras_quant.lower import lower
from keras_quant.zoo import build
print(len(lower(build("mlp", (8, 8, 1), 10)).nodes))
from keras_quant.methods import load_method
load_method("qkeras")
"""
    done = run(code)
    assert int(done.stdout) > 2
    assert "MissingDependencyError: qkeras is not installed; the method qkeras" in done.stderr


def test_missing_package_is_named_with_its_remedy() -> None:
    done = run("import sys; sys.modules['tensorflow'] = None; import keras_quant.tf")
    assert "MissingDependencyError: tensorflow is not installed" in done.stderr
    assert "pip install tensorflow tf_keras" in done.stderr

"""Files of Keras 3 beside what is made of them here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from click.testing import CliRunner  # noqa: E402

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.errors import UsageError  # noqa: E402
from keras_quant.jobs import conversion  # noqa: E402
from keras_quant.jobs.conversion import check_conversion  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

_WRITE = """
import keras
L = keras.layers
x = given = keras.Input((8, 8, 3))
x = L.Conv2D(4, 3, padding="same", name="conv")(x)
x = L.BatchNormalization(name="norm")(x)
x = L.Activation("hard_swish", name="swish")(x)
x = L.SeparableConv2D(6, 3, name="separable")(x)
x = L.GlobalAveragePooling2D(name="mean")(x)
keras.Model(given, L.Dense(3, name="logits")(x)).save("net.keras")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversion")
    subprocess.run(
        [sys.executable, "-c", _WRITE],
        cwd=folder,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
    )
    return folder / "net.keras"


@pytest.mark.slow
def test_each_layer_is_compared_and_the_first_that_differs_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check_conversion(file)
    names = ["conv", "norm", "swish", "separable", "mean", "logits"]
    assert [one.name for one in found.layers] == names
    assert found.first_different is None
    assert (found.unmatched, found.keras[:2]) == ((), "3.")

    def wrong(path: Path, *, trust: bool) -> keras.Model:
        model = load(path, trust=trust)
        norm = model.get_layer("norm")
        norm.gamma.assign(norm.gamma * 1.0001)
        return model

    load = conversion.load_model
    monkeypatch.setattr(conversion, "load_model", wrong)
    different = check_conversion(file)
    assert different.first_different == "norm"
    assert 1e-5 < different.layers[1].difference < 1e-3
    result = CliRunner().invoke(main, ["diagnose", str(file)])
    assert result.exit_code == 3
    assert "from layer norm on, it answers otherwise here" in result.stderr


def test_a_file_of_keras_2_is_not_converted(tmp_path: Path) -> None:
    given = keras.Input((4,))
    save_model(keras.Model(given, keras.layers.Dense(2)(given)), tmp_path / "net.keras")
    with pytest.raises(UsageError, match="was written by Keras 2.*nothing is converted"):
        check_conversion(tmp_path / "net.keras")

"""What QKeras loses in a file is kept, and nothing else is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5|The `keras.constr"),
]

from keras_quant.methods.qkeras.door import qkeras  # noqa: E402
from keras_quant.methods.qkeras.repair import QConv2DTranspose, repair_qkeras  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

repair_qkeras()

L = keras.layers
ALPHAS = np.float32([0.5, 1, 2])


def answers(model: keras.Model) -> np.ndarray:
    x = np.random.default_rng(1).normal(0, 2, (8, *model.input_shape[1:])).astype(np.float32)
    return model(x, training=False).numpy()


def kernel(quantizer: Any) -> L.Layer:
    return qkeras.QDense(3, kernel_quantizer=quantizer, name="layer")


def fused(activation: Any) -> L.Layer:
    weight = "quantized_bits(4,0,1,alpha=1)"
    return qkeras.QDense(3, kernel_quantizer=weight, activation=activation, name="layer")


def layer(activation: Any) -> L.Layer:
    return qkeras.QActivation(activation, name="layer")


LOST: dict[str, Callable[[], L.Layer]] = {
    "scale_axis": lambda: kernel(qkeras.quantized_bits(4, 0, 1, alpha="auto", scale_axis=0)),
    "use_ste": lambda: kernel(qkeras.quantized_bits(4, 0, 1, alpha=0.3, use_ste=False)),
    "alpha of channels": lambda: kernel(qkeras.quantized_bits(4, 0, 1, alpha=ALPHAS)),
    "relu_upper_bound": lambda: layer(
        qkeras.quantized_relu(4, 2, is_quantized_clip=False, relu_upper_bound=1.5)
    ),
    "use_variables": lambda: layer(qkeras.quantized_relu(4, 2, use_variables=True)),
    "noise": lambda: layer(qkeras.quantized_relu(4, 2, qnoise_factor=0.8)),
    "object": lambda: layer(qkeras.quantized_bits(4, 1, 0, alpha=1)),
    "object of no bits": lambda: layer(qkeras.quantized_tanh(4, use_real_tanh=True)),
    "function": lambda: layer(tf.nn.relu),
    "hswish": lambda: layer(qkeras.quantized_hswish(6, 2, 1, relu_shift=2)),
    "fused hswish": lambda: fused(qkeras.quantized_hswish(6, 2, 1)),
    "fused function": lambda: fused("hard_tanh"),
    "output_padding": lambda: QConv2DTranspose(
        2, 3, 2, output_padding=(1, 0), kernel_quantizer="quantized_bits(4,0,1,alpha=1)"
    ),
}  # fmt: skip


@pytest.mark.thinned(5)
@pytest.mark.parametrize("way", ["load_model", "save_model", "h5"])
@pytest.mark.parametrize("name", LOST)
def test_what_is_written_answers_bit_for_bit_when_it_is_read(
    name: str, way: str, tmp_path: Path
) -> None:
    inputs = keras.Input((4, 4, 2))
    given = inputs if name == "output_padding" else L.Flatten()(inputs)
    model = keras.Model(inputs, LOST[name]()(given))
    file = tmp_path / ("model.h5" if way == "h5" else "model.keras")
    (save_model if way == "save_model" else keras.Model.save)(model, file)
    again = load_model(file)
    np.testing.assert_array_equal(answers(again), answers(model))
    save_model(again, tmp_path / "again.keras")
    np.testing.assert_array_equal(answers(load_model(tmp_path / "again.keras")), answers(model))


@pytest.mark.parametrize(
    "name", ["binary", "quantized_bits", "quantized_po2", "quantized_relu", "ternary"]
)
def test_quantizer_of_defaults_is_saved_as_qkeras_saves_it(name: str) -> None:
    cls = getattr(qkeras.quantizers, name)
    assert cls().get_config() == cls.get_config.__wrapped__(cls())


def test_transposed_convolution_keeps_its_output_padding() -> None:
    again = QConv2DTranspose.from_config(
        QConv2DTranspose(2, 3, 2, output_padding=(1, 0)).get_config()
    )
    assert again.output_padding == (1, 0)
    assert again(tf.zeros((1, 4, 4, 3))).shape == (1, 10, 9, 2)
    assert QConv2DTranspose(2, 3).output_padding is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quantized_relu", "quantized_bits"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_adaptive_activation_answers_from_the_first_call_as_it_was_trained(
    kind: str, per_channel: bool, tmp_path: Path
) -> None:
    bound = {"relu_upper_bound": 2.5} if kind == "quantized_relu" else {}
    adaptive = qkeras.QAdaptiveActivation(
        kind, 4, ema_decay=0.5, per_channel=per_channel, name="layer", **bound
    )
    model = keras.Sequential([keras.Input((4, 4, 2)), L.Dense(2), adaptive])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(0, 3, (64, 4, 4, 2)).astype(np.float32)
    model.fit(x, x, epochs=2, verbose=0)
    expected = answers(model)
    assert model.layers[-1].quantizer.integer.numpy().max() > 0
    for file in (tmp_path / "model.h5", tmp_path / "model.keras"):
        model.save(file)
        np.testing.assert_array_equal(answers(load_model(file)), expected)


PLAIN = """
import numpy as np, qkeras, tensorflow as tf
qkeras.qconvolutional.array_ops.stack = tf.stack
def answers():
    x = tf.constant(np.random.default_rng(0).normal(0, 2, (8, 6, 6, 3)), tf.float32)
    tf.keras.utils.set_random_seed(0)
    alpha = np.float32([0.5, 1, 2])
    kernels = [qkeras.quantized_bits(4, 0, 1, alpha=alpha), "quantized_bits(4,0,1,alpha=1)"]
    layers = [qkeras.QDense(3, kernel_quantizer=kernel) for kernel in kernels]
    layers += [qkeras.QConv2DTranspose(3, 3, 2, output_padding=(1, 1), kernel_quantizer="binary()")]
    layers += [qkeras.QActivation(q) for q in ("quantized_relu(4,2)", "quantized_bits(4,1,1)")]
    models = [tf.keras.Sequential([tf.keras.Input((6, 6, 3)), layer]) for layer in layers]
    return [y for model in models for y in (model(x).numpy(), model.predict(x, verbose=0))]
before = answers()
import keras_quant.model.files
for mine, theirs in zip(answers(), before, strict=True):
    np.testing.assert_array_equal(mine, theirs)
"""


@pytest.mark.slow
def test_importing_keras_quant_changes_no_answer_of_qkeras() -> None:
    quiet = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", PLAIN], check=True, env=quiet)

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.readers import file_names  # noqa: E402
from keras_quant.model import bounds  # noqa: E402
from keras_quant.model.bounds import (  # noqa: E402
    config_excesses,
    limited_variables,
    output_excesses,
)
from keras_quant.tf import keras  # noqa: E402


def excesses(config: Any) -> list[str]:
    return config_excesses(config, file_names().calls)


def nested(depth: int) -> Any:
    config: Any = 0
    for _ in range(depth):
        config = [config]
    return config


def called(levels: int) -> Any:
    """Ten calls of a model that calls one ten times, and so on."""
    config: Any = {"class_name": "Dense"}
    for _ in range(levels):
        config = {"class_name": "Model", "config": {"layers": [config]}, "inbound_nodes": [[]] * 10}
    return config


FOUND: dict[str, tuple[Any, str]] = {
    "units": ({"units": 2**24 + 1}, "units is 1.67772e+07; at most 16,777,216 is allowed"),
    "in a shape": ({"batch_input_shape": [None, 10**9]}, "batch_input_shape is 1e+09; at most"),
    "bits": ({"config": {"total_bits": 10**9}}, "total_bits is 1e+09; at most 32 is allowed"),
    "quantizer": (
        {"class_name": "qkeras>quantized_bits", "config": {"integer": 1e9}},
        "integer is 1e+09; at most 65,536 is allowed",
    ),
    "text": (
        {"kernel_quantizer": "quantized_bits(4,999999,1,alpha=1.5)"},
        "kernel_quantizer is 999999; at most 65,536 is allowed",
    ),
    "exponent": ({"activation": "quantized_relu(1e9)"}, "activation is 1e+09; at most 65,536"),
    "long text": ({"activation": "1" * 1001}, "is a text of 1,001 characters; 1,000 are allowed"),
    "depth": (nested(bounds.DEPTH + 1), "nested more than 100 deep"),
    "calls": (called(5), r"makes and calls 211,110 objects; 10,000 are allowed"),
}


@pytest.mark.parametrize(("config", "told"), FOUND.values(), ids=FOUND)
def test_what_asks_for_too_much_is_told_with_the_bound(config: Any, told: str) -> None:
    (found,) = excesses(config)
    assert told in found


@pytest.mark.parametrize(
    "config",
    [
        {"seed": 2**62, "shared_object_id": 140000000000000, "epsilon": 1e-7, "max_value": 1e30},
        {"total_bits": 8, "units": 4096, "trainable": True, "value": float("inf")},
        {"class_name": "quantized_bits", "config": {"bits": 16, "alpha": [0.5, 2.0]}},
        {"kernel_quantizer": "quantized_po2(4,max_value=2048)", "activation": "relu6"},
        nested(bounds.DEPTH - 2),
        called(3),
    ],
)
def test_what_honest_files_hold_is_within_all_bounds(config: Any) -> None:
    assert excesses(config) == []


def test_a_variable_larger_than_what_is_left_is_refused_before_it_is_made() -> None:
    def build() -> None:
        keras.layers.Dense(2000, use_bias=False).build((None, 1000))

    needed = 2000 * 1000 - bounds.UNSAVED_ELEMENTS
    with limited_variables(needed):
        build()
    told = r"variable kernel has the shape \(1000, 2000\), and the file has 951,423 numbers"
    with pytest.raises(ValueError, match=told), limited_variables(needed - 1):
        build()


def test_a_layer_that_puts_out_too_much_is_told_with_those_of_models_inside() -> None:
    image = keras.Input((1024, 1024, 4))
    large = keras.layers.UpSampling2D(5, name="large")(image)
    inner = keras.Model(image, keras.layers.GlobalAveragePooling2D()(large), name="inner")
    model = keras.Sequential([keras.Input((1024, 1024, 4)), inner])
    assert output_excesses(model) == ["layer large puts out 104,857,600 values an image"]
    assert output_excesses(keras.Sequential([keras.Input((None, None, 3))])) == []

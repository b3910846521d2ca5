from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import layers  # noqa: E402
from keras_quant.methods.qkeras import names  # noqa: E402
from keras_quant.model import safety as keras_safety  # noqa: E402
from keras_quant.model.safety import config_problems  # noqa: E402


@pytest.mark.parametrize(
    "text",
    [
        "relu",
        "quantized_relu(4,2)",
        "quantized_bits(4, -5, 1, alpha=1)",
        "quantized_bits(4,0,1,alpha='auto_po2')",
        'ternary(alpha="auto",threshold=0.3)',
        "quantized_relu(bits=4,integer=2,negative_slope=1e-1)",
        "quantized_po2(4,max_value=None,use_ste=True)",
        "binary()",
        "hard_tanh",
    ],
)
def test_quantizer_texts_of_qkeras_pass(text: str) -> None:
    assert config_problems({"activation": text}) == []


@pytest.mark.parametrize(
    "text",
    ["eval('1')", "binary(alpha=auto)", "binary(f())", "binary", "relu", "binary()", "binary();x"],
)
def test_only_quantizer_calls_and_activations_are_texts_of_quantizers(text: str) -> None:
    is_fine = text in ("binary", "relu", "binary()")
    assert bool(config_problems({"kernel_quantizer": text})) != is_fine


def test_long_texts_are_read_in_linear_time() -> None:
    started = time.perf_counter()
    assert config_problems({"activation": f"quantized_bits({'1' * 200_000}"})
    assert time.perf_counter() - started < 5  # minutes, where digits may be split in any two


@pytest.mark.parametrize("key", ["kernel_initializer", "bias_regularizer", "kernel_constraint"])
def test_names_of_initializers_regularizers_and_constraints_are_checked(key: str) -> None:
    assert config_problems({key: "l1_l2"}) == config_problems({key: "GlorotUniform"}) == []
    assert config_problems({key: "deserialize"}) == [
        f"the model: {key} 'deserialize' is none that is known to be safe"
    ]


def test_finding_is_told_with_the_innermost_layer() -> None:
    inner = {"class_name": "Lambda", "config": {"name": "inner"}}
    outer = {"class_name": "TimeDistributed", "config": {"name": "outer", "layer": inner}}
    model = {"class_name": "Sequential", "config": {"name": "net", "layers": [outer]}}
    assert config_problems(model) == ["layer inner: a Lambda layer holds Python code"]


def test_a_name_close_to_a_known_one_may_be_damage() -> None:
    (found,) = config_problems({"class_name": "Conv2B", "config": {"name": "head"}})
    assert "'Conv2B' is no class" in found
    assert "close names: " in found and "Conv2D" in found and "is the file damaged?" in found


@pytest.mark.parametrize("name", [None, 3, ["Dense"], {"a": 1}])
def test_class_name_that_is_no_text_is_refused(name: Any) -> None:
    assert config_problems({"class_name": name, "config": {}})


def test_what_runs_code_is_on_no_list() -> None:
    modules = (keras_safety, layers, names)
    lists = [value for m in modules for name, value in vars(m).items() if name.isupper()]
    listed = frozenset().union(*(value for value in lists if isinstance(value, frozenset)))
    assert len(listed) > 100
    assert listed.isdisjoint(
        {"Lambda", "TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod"}
        | {"TFSMLayer", "TextVectorization", "StringLookup", "TensorFlowOpLayer"}
    )


def missing(names: Iterable[str], *modules: Any) -> set[str]:
    return {name for name in names if not any(hasattr(module, name) for module in modules)}


def test_every_listed_name_is_one_that_keras_or_a_method_defines() -> None:
    from keras_quant.methods.qkeras import quantizers
    from keras_quant.methods.qkeras.door import qkeras
    from keras_quant.model import pointwise
    from keras_quant.tf import keras, tf
    from keras_quant.zoo import halting

    assert missing(keras_safety.KERAS_LAYERS, keras.layers) == set()
    assert missing(keras_safety.INITIALIZERS, keras.initializers) == set()
    assert missing(keras_safety.REGULARIZERS, keras.regularizers) == set()
    assert missing(keras_safety.CONSTRAINTS, keras.constraints) == set()
    assert missing(keras_safety.ACTIVATIONS, keras.activations, tf.nn) == set()
    assert missing(names.CLASSES, qkeras) == set()
    assert missing(names.QUANTIZERS, qkeras.quantizers) == set()
    assert missing(names.FUNCTIONS, qkeras.quantizers) == set()
    assert missing(names.OWN_CLASSES, quantizers) == set()
    assert missing(layers.CLASSES, layers) == set()
    assert missing(keras_safety.OWN_FUNCTIONS, pointwise, halting) == set()
    assert missing(halting.CLASSES, halting) == set()

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from keras_quant.errors import KerasQuantWarning, ModelError
from keras_quant.lower import lower_exactly
from keras_quant.model.files import load_model
from keras_quant.model.keras3_config import to_keras2, weight_groups
from keras_quant.model.topology import list_calls
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.parity import prove
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.tf import keras
from tests.lower.codes import count_differences
from tests.lower.shapes import images_of, quantized, randomized

pytestmark = pytest.mark.tensorflow

FLOAT32_ROUNDING = 1e-6
FLOAT32_CODES = 1e-3  # share of codes that Keras, which sums in float32, may have otherwise


def named(module: str, class_name: str, config: Any, registered: str | None = None) -> dict:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": registered,
    }


def keras3_file(path: Path, tensor: dict[str, Any], **dense: Any) -> Path:
    """A file as Keras 3.15 writes it: a Dense layer of 2 x 2 and a ReLU6."""
    policy = named("keras", "DTypePolicy", {"name": "float32"})
    call = {"args": [tensor], "kwargs": {}}
    inner = {"class_name": "__keras_tensor__", "config": {"keras_history": ["dense", 0, 0]}}
    layers = [
        named("keras.layers", "InputLayer", {"batch_shape": [None, 2], "name": "image"}),
        named("keras.layers", "Dense", {"name": "dense", "units": 2, "dtype": policy, **dense}),
        named("keras.layers", "ReLU", {"name": "clip", "max_value": 6.0, "dtype": policy}),
    ]
    nodes: list[list[Any]] = [[], [call], [{"args": [inner], "kwargs": {"mask": None}}]]
    for layer, inbound in zip(layers, nodes, strict=True):
        layer.update(name=layer["config"]["name"], inbound_nodes=inbound)
    ends = {"input_layers": ["image", 0, 0], "output_layers": ["clip", 0, 0]}
    config = {"name": "net", "trainable": True, "layers": layers, **ends}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        model = named("keras.src.models.functional", "Functional", config, "Functional")
        archive.writestr("config.json", json.dumps(model))
        content = io.BytesIO()
        with h5py.File(content, "w") as weights:
            weights["layers/dense/vars/0"] = np.array([[1, 2], [3, 4]], np.float32)
            weights["layers/dense/vars/1"] = np.array([-1, 1], np.float32)
        archive.writestr("model.weights.h5", content.getvalue())
    return path


IMAGE = {"class_name": "__keras_tensor__", "config": {"keras_history": ["image", 0, 0]}}


def test_keras3_file_is_rebuilt_in_keras2(tmp_path: Path) -> None:
    model = load_model(keras3_file(tmp_path / "m.keras", IMAGE, quantization_config=None))
    # [1, 0] @ kernel + bias = [0, 3]; [2, 2] @ kernel + bias = [7, 13], clipped to 6.
    np.testing.assert_array_equal(model(np.array([[1.0, 0], [2, 2]])), [[0, 3], [6, 6]])
    assert isinstance(model, keras.Model)


def test_keras3_setting_that_keras2_lacks_is_refused_by_name(tmp_path: Path) -> None:
    path = keras3_file(tmp_path / "m.keras", IMAGE, lora_rank=4)
    with pytest.raises(ModelError, match="cannot be rebuilt: .*dense.*lora_rank"):
        load_model(path)


def test_keras3_call_on_a_constant_is_refused(tmp_path: Path) -> None:
    path = keras3_file(tmp_path / "m.keras", {"value": 3})
    with pytest.raises(ModelError, match="which is no layer's output"):
        load_model(path)


@pytest.mark.parametrize("key", ["activation", "kernel_quantizer", "kernel_initializer"])
def test_a_dtype_policy_is_a_text_under_dtype_alone(key: str, tmp_path: Path) -> None:
    policy = named("keras", "DTypePolicy", {"name": "tf.io.write_file('marker','x')"})
    path = keras3_file(tmp_path / "m.keras", IMAGE, **{key: policy})
    with pytest.raises(ModelError, match="'DTypePolicy' of module keras is no class or function"):
        load_model(path)


def test_what_is_built_is_checked_and_not_what_it_was_translated_from(tmp_path: Path) -> None:
    """A layer that is left out may be of any setting; one that stays may not."""
    path = keras3_file(tmp_path / "m.keras", IMAGE, activation="hard_silu")
    load_model(path)
    path = keras3_file(tmp_path / "m.keras", IMAGE, kernel_initializer="hard_silu")
    with pytest.raises(ModelError, match="kernel_initializer 'hard_silu' is none that is known"):
        load_model(path)


def test_lambda_in_a_keras3_file_is_refused(tmp_path: Path) -> None:
    evil = named("keras.layers", "Lambda", {"name": "evil"})
    path = keras3_file(tmp_path / "m.keras", IMAGE, activation=evil)
    with pytest.raises(ModelError, match="layer evil: a Lambda layer holds Python code"):
        load_model(path)


def graph_of(models: dict[str, str], calls: dict[str, list[str]], output: list[Any]) -> Any:
    """A functional model of models, as Keras 3 describes it.

    Args:
        models: name to class.
        calls: for each name what its calls read, as "NAME CALL".
    """

    def tensor(text: str) -> dict[str, Any]:
        name, call = text.split()
        history = {"keras_history": [name, int(call), 0]}
        return {"class_name": "__keras_tensor__", "config": history}

    layers = [
        {
            "class_name": kind,
            "name": name,
            "config": {"name": name} | ({"layers": []} if kind != "InputLayer" else {}),
            "inbound_nodes": [{"args": [tensor(text)], "kwargs": {}} for text in calls[name]],
        }
        for name, kind in ({"x": "InputLayer"} | models).items()
    ]
    ends = {"input_layers": ["x", 0, 0], "output_layers": output}
    return {"class_name": "Functional", "config": {"name": "net", "layers": layers, **ends}}


def test_calls_of_models_are_numbered_as_keras2_does() -> None:
    calls = {"x": [], "seq": ["x 0", "fun 0"], "fun": ["seq 0", "seq 1"]}
    config = graph_of(
        {"seq": "Sequential", "fun": "Functional"}, calls, [["seq", 1, 0], ["fun", 2, 0]]
    )
    found = to_keras2(config)["config"]
    read = {layer["name"]: layer["inbound_nodes"] for layer in found["layers"]}
    assert read["seq"] == [[["x", 0, 0, {}]], [["fun", 1, 0, {}]]]
    assert read["fun"] == [[["seq", 1, 0, {}]], [["seq", 2, 0, {}]]]
    # Only here does Keras 3 count as Keras 2 does, and of functional models only.
    assert found["output_layers"] == [["seq", 2, 0], ["fun", 2, 0]]


def test_variables_of_models_lie_under_those_of_the_model_around_them() -> None:
    def layer(class_name: str, name: str, *layers: dict) -> dict:
        return {"class_name": class_name, "config": {"name": name, "layers": list(layers)}}

    def dense(name: str) -> dict:
        return {"class_name": "Dense", "config": {"name": name}}

    inner = layer("Sequential", "inner", dense("a"), dense("b"))
    config = layer("Functional", "net", dense("a"), inner, layer("Sequential", "tail", dense("a")))
    assert list(weight_groups(config)) == [
        (("a",), "layers/dense/vars"),
        (("inner", "a"), "layers/sequential/layers/dense/vars"),
        (("inner", "b"), "layers/sequential/layers/dense_1/vars"),
        (("tail", "a"), "layers/sequential_1/layers/dense/vars"),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files by Keras 3 itself, which cannot be imported beside Keras 2."""
    folder = tmp_path_factory.mktemp("keras3")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    environment.pop("TF_USE_LEGACY_KERAS")
    script = Path(__file__).with_name("keras3_models.py")
    subprocess.run([sys.executable, script, folder], check=True, env=environment)
    return folder


@pytest.mark.slow
def test_augmentation_that_is_left_out_is_told(written: Path) -> None:
    said = r"random_flip \(RandomFlip\), random_brightness \(RandomBrightness\) changed images"
    with pytest.warns(KerasQuantWarning, match=said):
        load_model(written / "resized.keras")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::keras_quant.errors.KerasQuantWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "name",
    ["nested", "twice", "deep", "resized", "ends", "frozen", "branches", "arithmetic", "dicts"],
)
def test_models_inside_models_answer_as_in_keras3(written: Path, name: str, suffix: str) -> None:
    path = written / f"{name}{suffix}"
    if not path.exists():
        pytest.skip("Keras 3 does not write this model so")
    model = load_model(path)
    arrays = np.load(written / f"{name}.npz")
    given = [arrays[key] for key in arrays if key.startswith("x")]
    expected = [arrays[key] for key in arrays if key.startswith("y")]
    found = keras.Model(model.inputs, model.outputs)(given, training=False)
    found = found if isinstance(found, list) else [found]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=FLOAT32_ROUNDING, atol=FLOAT32_ROUNDING)
        assert np.std(theirs) > 0
    assert list_calls(model)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["w4a4", "w8a8"])
def test_arithmetic_is_quantized_and_its_file_answers_as_the_model(
    written: Path, bits: str
) -> None:
    keras.utils.set_random_seed(0)
    source = randomized(load_model(written / "arithmetic.keras"))
    images = images_of(source)
    model = quantized(source, scheme_from_bits(bits), images)
    graph = lower_exactly(model).graph
    inputs = dict(zip(graph.inputs, images, strict=True))
    for form in FORMATS.values():
        parity = prove(graph, form, form.definition.emit(graph), inputs)
        assert parity.codes_different <= parity.codes_tolerance * parity.codes_compared
        assert parity.passed and parity.codes_compared > 0
    different, compared = count_differences(model, graph, inputs)
    assert different <= FLOAT32_CODES * compared

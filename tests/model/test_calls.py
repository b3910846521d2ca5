"""Calls of layers are followed as tf_keras makes them; none of these files is given to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import ModelError  # noqa: E402
from keras_quant.model import files  # noqa: E402
from keras_quant.model.calls import endless_calls  # noqa: E402
from keras_quant.tf import keras  # noqa: E402


def functional(**reads: list[list[Any]]) -> dict[str, Any]:
    """A model of an input "image", and layers that read what is given, a list for each call."""
    layers = [{"name": "image", "class_name": "InputLayer", "inbound_nodes": []}]
    layers += [
        {"name": name, "class_name": "Dense", "inbound_nodes": nodes}
        for name, nodes in reads.items()
    ]
    return {"class_name": "Functional", "config": {"layers": layers, "output_layers": []}}


IMAGE = ["image", 0, 0, {}]
ENDLESS = {
    "itself": (
        functional(add=[[IMAGE, ["add", 0, 0, {}]]]),
        "layer add reads call 0 of layer add, which is never made",
    ),
    "a call too late": (
        functional(a=[[IMAGE]], b=[[["a", 1, 0, {}]]]),
        "layer b reads call 1 of layer a, which is never made",
    ),
    "no number": (
        functional(a=[[IMAGE]], b=[[["a", "x" * 500, 0, {}]]]),
        f"layer b reads call '{'x' * 199}... (502 characters) of layer a, which is never made",
    ),
    "a keyword argument": (
        functional(a=[[["image", 0, 0, {"y": ["a", 0, 0]}]]]),
        "layer a reads call 0 of layer a, which is never made",
    ),
}


@pytest.mark.parametrize(("config", "told"), ENDLESS.values(), ids=ENDLESS)
def test_calls_that_never_end_are_told(config: dict[str, Any], told: str) -> None:
    assert endless_calls(config) == [told]
    assert endless_calls({"class_name": "Wrapper", "config": [{"layer": config}]}) == [told]


def test_each_of_a_circle_is_told() -> None:
    circle = functional(a=[[["b", 0, 0, {}]]], b=[[["c", 0, 0, {}]]], c=[[["a", 0, 0, {}]]])
    assert len(endless_calls(circle)) == 3


def test_calls_in_any_order_and_of_shared_layers_come_to_an_end() -> None:
    shared = functional(b=[[["a", 1, 0, {}]]], a=[[IMAGE], [["c", 0, 0, {}]]], c=[[["a", 0, 0]]])
    assert endless_calls(shared) == []
    assert endless_calls(functional(a=[[["_CONSTANT_VALUE", -1, 3, {"y": ["image", 7, 0]}]]])) == []
    assert endless_calls(functional(a=[[["nobody", 0, 0, {}]]])) == []  # tf_keras refuses that


@pytest.mark.parametrize("explicit", [True, False])
def test_models_that_are_called_are_counted_as_tf_keras_counts_them(explicit: bool) -> None:
    image = keras.Input((4,))
    inputs = [keras.Input((4,))] if explicit else []
    body = keras.Sequential([*inputs, keras.layers.Dense(4)])
    inner = keras.Input((4,))
    nested = keras.Model(inner, keras.layers.Dense(4)(inner))
    x = nested(body(body(image)))
    model = keras.Model(image, keras.layers.Add()([nested(x), x]))
    config = {"class_name": "Functional", "config": model.get_config()}
    assert endless_calls(config) == []
    for layer in config["config"]["layers"]:
        for node in layer["inbound_nodes"]:
            for read in node:
                if read[0] != image.node.layer.name:
                    read[1] += 5
    assert len(endless_calls(config)) == 3


def test_such_a_file_is_refused_before_tf_keras_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.keras"
    files.save_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), path)
    config = ENDLESS["itself"][0]
    monkeypatch.setattr(files, "_parse_config", lambda text: config)
    monkeypatch.setattr(files, "_build", None)
    with pytest.raises(ModelError, match="as it is damaged: layer add reads call 0 of layer add"):
        files.load_model(path)

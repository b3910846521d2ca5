"""Models saved by Keras 3, in the words of Keras 2."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# Settings that only Keras 3 writes, with the value that means what Keras 2 does anyway. Another
# value stays, so that Keras 2 refuses it by name.
_ADDED = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
_RENAMED = {"batch_shape": "batch_input_shape"}
# Functions that Keras 2 lacks, or has under this name as another one; `methods.pointwise` has them.
_ACTIVATIONS = {
    "hard_sigmoid": "keras_quant>hard_sigmoid_keras3",
    "hard_silu": "keras_quant>hard_swish",
    "hard_swish": "keras_quant>hard_swish",
}


def to_keras2(config: dict[str, Any]) -> dict[str, Any]:
    """Translates a Keras 3 model's configuration.

    Args:
        config: of a functional or sequential model of layers that Keras 2 has too.
    Returns: what tf_keras deserializes.
    Raises:
        ValueError: models are nested, or a layer is called on something else than other
            layers' outputs.
    """
    nested = [layer["config"]["name"] for layer in _layers(config) if "layers" in layer["config"]]
    if nested:
        raise ValueError(f"models inside the model ({', '.join(nested)}) are not supported")
    return _translate(config)


def weight_groups(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Says where in model.weights.h5 Keras 3 keeps each layer's variables.

    Yields: a layer's name, and the path of its group.
    """
    counts: dict[str, int] = {}
    for layer in _layers(config):
        key = _snake_case(layer["class_name"])
        counts[key] = counts.get(key, -1) + 1
        number = f"_{counts[key]}" if counts[key] else ""
        yield layer["config"]["name"], f"layers/{key}{number}/vars"


def _layers(config: dict[str, Any]) -> list[dict[str, Any]]:
    layers = config["config"]["layers"]
    return [layer for layer in layers if layer["class_name"] != "InputLayer"]


def _translate(value: Any) -> Any:
    if isinstance(value, list):
        return [_translate(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("class_name")
    if kind == "DTypePolicy":
        return value["config"]["name"]
    if kind == "__keras_tensor__":
        return value["config"]["keras_history"]
    result = {_RENAMED.get(key, key): _translate(item) for key, item in value.items()}
    if isinstance(result.get("activation"), str):
        result["activation"] = _ACTIVATIONS.get(result["activation"], result["activation"])
    if kind == "LeakyReLU":
        result["config"]["alpha"] = result["config"].pop("negative_slope")
    result = {k: v for k, v in result.items() if k not in _ADDED or _ADDED[k] != v}
    if kind == "Functional" and "module" in result:  # .h5 files give no modules
        result["module"] = "tf_keras.src.engine.functional"
    for key in {"input_layers", "output_layers"} & result.keys():
        result[key] = list(_histories(result[key]))
    if "inbound_nodes" in result:
        result["inbound_nodes"] = [_node(node) for node in result["inbound_nodes"]]
    return result


def _node(node: dict[str, Any]) -> list[list[Any]]:
    """One call of a layer: what it reads, each with the call's keyword arguments."""
    arguments = {key: value for key, value in node["kwargs"].items() if value is not None}
    return [[*history, arguments] for history in _histories(node["args"])]


def _histories(value: Any) -> Iterator[list[Any]]:
    """The [layer, node, tensor] triples in nested lists."""
    if not isinstance(value, list):
        raise ValueError(f"a layer is called on {value!r}, which is no layer's output")
    if value and isinstance(value[0], str):
        yield value
        return
    for item in value:
        yield from _histories(item)


def _snake_case(name: str) -> str:
    """Keras' own rule, keras.src.utils.naming.to_snake_case."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()

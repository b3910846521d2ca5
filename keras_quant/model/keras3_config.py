"""Models saved by Keras 3, in the words of Keras 2.

Both number the calls of a layer from 0. Of a model, Keras 2 numbers them from 1, since it counts
what links the model's own inputs and outputs; Keras 3 does so where an output of a functional model
is one of the outer model's, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from keras_quant.model.keras3_operations import as_layer

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
# What only Keras 3's Resizing has, likewise.
_ADDED_TO_RESIZING = {
    "data_format": "channels_last",
    "pad_to_aspect_ratio": False,
    "fill_mode": "constant",
    "fill_value": 0.0,
    "antialias": False,
}
# They change images while a model is trained, and pass them on afterwards (Keras 3.15, each tried).
AUGMENTATIONS = frozenset({
    "AugMix", "CutMix", "MixUp", "RandAugment", "RandomBrightness", "RandomColorJitter",
    "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomShear",
    "RandomTranslation", "RandomZoom",
})  # fmt: skip
_RENAMED = {"batch_shape": "batch_input_shape"}
_NO = object()  # equals nothing
# Functions that Keras 2 lacks, or has under this name as another one; `model.pointwise` has them.
_ACTIVATIONS = {
    "hard_sigmoid": "keras_quant>hard_sigmoid_keras3",
    "hard_silu": "keras_quant>hard_swish",
    "hard_swish": "keras_quant>hard_swish",
}


def to_keras2(config: dict[str, Any]) -> dict[str, Any]:
    """Translates a Keras 3 model's configuration.

    Args:
        config: of a functional or sequential model of layers, and of such models, that Keras 2
            has too.
    Returns: what tf_keras deserializes; a linear Activation stands for each of AUGMENTATIONS,
        layers for operations (`keras3_operations`), and lists, in the order of the keys, for the
        dicts of inputs and outputs.
    Raises:
        ValueError: a layer is called on something else than other layers' outputs, or an operation
            is no layer's.
    """
    translated: dict[str, Any] = _translate(config, models=())
    return translated


def augmentations(config: dict[str, Any]) -> list[str]:
    """Names the layers that `to_keras2` leaves out, of models inside too, as "NAME (CLASS)"."""
    found = []
    for layer in _layers(config):
        if _is_model(layer):
            found += augmentations(layer)
        elif layer["class_name"] in AUGMENTATIONS:
            found.append(f"{layer['config']['name']} ({layer['class_name']})")
    return found


def weight_groups(config: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Says where in model.weights.h5 Keras 3 keeps each layer's variables.

    Args:
        config: of a model, as Keras 3 words it.
    Yields: the names of the models around a layer, from the outside in, and its own; and the path
        of its group.
    """
    counts: dict[str, int] = {}
    for layer in _layers(config):
        name, key = layer["config"]["name"], _snake_case(layer["class_name"])
        counts[key] = counts.get(key, -1) + 1
        group = f"layers/{key}" + (f"_{counts[key]}" if counts[key] else "")
        if not _is_model(layer):
            yield (name,), f"{group}/vars"
            continue
        for names, inner in weight_groups(layer):
            yield (name, *names), f"{group}/{inner}"


def _layers(config: dict[str, Any]) -> list[dict[str, Any]]:
    layers = config["config"]["layers"]
    return [layer for layer in layers if layer["class_name"] != "InputLayer"]


def _is_model(layer: dict[str, Any]) -> bool:
    return "layers" in layer["config"]


def _translate(value: Any, models: Collection[str]) -> Any:
    """Translates what a model's configuration holds; models: names of those that it calls."""
    if isinstance(value, list):
        return [_translate(item, models) for item in value]
    if not isinstance(value, dict):
        return value
    if "inbound_nodes" in value:
        value = as_layer(value)
    kind = value.get("class_name")
    if kind == "__keras_tensor__":
        return _counted(value["config"]["keras_history"], models)
    if isinstance(value.get("layers"), list):
        models = {layer["config"]["name"] for layer in value["layers"] if _is_model(layer)}
    if "output_layers" in value:
        value = value | _ends(value)
    result = {
        _RENAMED.get(key, key): _dtype(item) if key == "dtype" else _translate(item, models)
        for key, item in value.items()
    }
    if isinstance(result.get("activation"), str):
        result["activation"] = _ACTIVATIONS.get(result["activation"], result["activation"])
    if kind == "Resizing":
        kept = {k: v for k, v in result["config"].items() if _ADDED_TO_RESIZING.get(k, _NO) != v}
        result["config"] = kept
    if kind in AUGMENTATIONS:
        names = {"name": result["config"]["name"]}
        result |= {"class_name": "Activation", "config": {**names, "activation": "linear"}}
    if kind == "LeakyReLU":
        result["config"]["alpha"] = result["config"].pop("negative_slope")
    result = {k: v for k, v in result.items() if k not in _ADDED or _ADDED[k] != v}
    if kind == "Functional" and "module" in result:  # .h5 files give no modules
        result["module"] = "tf_keras.src.engine.functional"
    if "inbound_nodes" in result:
        result["inbound_nodes"] = [_node(node) for node in result["inbound_nodes"]]
    return result


def _dtype(value: Any) -> Any:
    """A dtype by its name alone; under other keys the object of a policy means nothing."""
    is_policy = isinstance(value, dict) and value.get("class_name") == "DTypePolicy"
    return value["config"]["name"] if is_policy else value


def _ends(config: dict[str, Any]) -> dict[str, Any]:
    """What a functional model reads and puts out."""
    called = {layer["config"]["name"]: layer["class_name"] for layer in config["layers"]}
    sequential = {name for name, kind in called.items() if kind == "Sequential"}
    outputs = [_counted(history, sequential) for history in _histories(config["output_layers"])]
    return {"input_layers": list(_histories(config["input_layers"])), "output_layers": outputs}


def _counted(history: list[Any], models: Collection[str]) -> list[Any]:
    """[layer, call, output], where calls of the models named are counted from 1."""
    layer, call, output = history
    return [layer, call + (layer in models), output]


def _node(node: dict[str, Any]) -> list[list[Any]]:
    """One call of a layer: what it reads, each with the call's keyword arguments."""
    arguments = {key: value for key, value in node["kwargs"].items() if value is not None}
    return [[*history, arguments] for history in _histories(node["args"])]


def _histories(value: Any) -> Iterator[list[Any]]:
    """The [layer, call, output] triples in nested lists, and in dicts in the order of their keys.

    So Keras flattens them, both 2 and 3.
    """
    if isinstance(value, dict) and "class_name" not in value:
        value = [value[key] for key in sorted(value)]
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

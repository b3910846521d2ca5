"""How large what a model file says may be, before memory or time is spent on it.

A file of some kilobytes can ask for any amount of either: by a number, by content that unpacks to
much more, or by layers that are called by what is called. What honest files ask for stays far
below these bounds, which hold for trusted files too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from keras_quant.tf import tf

CONFIG_BYTES = 2**26
"""Of a configuration. That of EfficientNetV2-L, of 1,031 layers, has 0.7 MB."""

UNPACKED_BYTES, UNPACKED_TIMES = 2**26, 20
"""What a file may unpack to: so much, or so many times its size where that is more. Keras
compresses nothing; kernels of which 95 % are 0 compress to a tenth."""

DEPTH = 100
"""Of dicts and lists in a configuration: a model in a model in a model takes 14."""

CALLS = 10_000
"""Objects that a configuration makes, times how often each is called. EfficientNetV2-L has 2,580;
tf_keras takes 2 ms for one (MobileNetV2 on one core)."""

INTEGER = 2**24
"""The largest length, size or number of channels."""

UNBOUNDED = frozenset({"seed", "shared_object_id"})
"""Integers of which nothing is made."""

VALUES = 2**26
"""Values of an input or a layer's output, for one image: 256 MB in float32, an image of 16
megapixels with 4 channels."""

BITS = 32
"""Of a quantizer: float32 holds no more. QKeras computes 2 ** bits."""

QUANTIZER_NUMBER = 2**16
"""Any other number that a quantizer is given, some of which QKeras takes for exponents too."""

TEXT = 1000
"""Characters of a text that names an activation or a quantizer, with its arguments."""

EVALUATED = ("activation", "quantizer")
"""How the names of settings end whose texts a method evaluates."""

UNSAVED_ELEMENTS = 2**20
"""Of variables that are not in a file: states of random generators, noise factors."""

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


def allowed_bytes(size: int) -> int:
    """The most that a file of some size may unpack to."""
    return max(UNPACKED_BYTES, UNPACKED_TIMES * size)


def config_excesses(config: Any, quantizers: Collection[str]) -> list[str]:
    """Lists what of a configuration is larger than it may be.

    Args:
        config: parsed JSON.
        quantizers: names of classes whose numbers may be exponents.
    Returns: one sentence for each finding.
    """
    if _depth(config) > DEPTH:
        return [f"it is nested more than {DEPTH} deep"]
    calls = _calls(config)
    if calls > CALLS:
        return [f"it makes and calls {calls:,} objects; {CALLS:,} are allowed"]
    return list(dict.fromkeys(_excesses(config, key="", limit=INTEGER, quantizers=quantizers)))


def output_excesses(model: Any) -> list[str]:
    """Lists the layers of a model that put out more values than they may, one sentence each."""
    found = []
    for layer in model._flatten_layers(include_self=False):
        for node in layer._inbound_nodes:
            for output in tf.nest.flatten(node.outputs):
                values = math.prod(size or 1 for size in output.shape[1:])
                if values > VALUES:
                    found.append(f"layer {layer.name} puts out {values:,} values an image")
    return found


@contextmanager
def limited_variables(elements: int) -> Iterator[None]:
    """Refuses variables of more elements than a file has for them, before they are made.

    Args:
        elements: those of all arrays in the file.
    Raises:
        ValueError: layers within ask for more.
    """
    room = elements + UNSAVED_ELEMENTS

    def count(make: Callable[..., Any], **settings: Any) -> Any:
        nonlocal room
        shape = tuple(settings.get("shape") or ())  # that of a scalar is not always given
        room -= math.prod(shape)
        if room < 0:
            raise ValueError(
                f"variable {settings.get('name')} has the shape {shape}, and the file has "
                f"{elements:,} numbers for all variables"
            )
        return make(**settings)

    with tf.variable_creator_scope(count):
        yield


def _depth(value: Any) -> int:
    """How deep lists and dicts are nested."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def _calls(value: Any) -> int:
    """How many objects are made of a configuration, or called by calling what was made."""
    if isinstance(value, list):
        return sum(map(_calls, value))
    if not isinstance(value, dict):
        return 0
    nodes = value.get("inbound_nodes")
    times = max(1, len(nodes)) if isinstance(nodes, list) else 1
    if value.get("class_name") == "Bidirectional":  # makes two of what it wraps
        times *= 2
    inside = (item for key, item in value.items() if key != "inbound_nodes")
    return times * (("class_name" in value) + sum(map(_calls, inside)))


def _excesses(value: Any, *, key: str, limit: float, quantizers: Collection[str]) -> Iterator[str]:
    """What is too large; limit: of numbers that are not bits."""
    rest: dict[str, Any] = {"limit": limit, "quantizers": quantizers}
    if isinstance(value, list):
        for item in value:
            yield from _excesses(item, key=key, **rest)
    elif isinstance(value, dict):
        if str(value.get("class_name")).rpartition(">")[2] in quantizers:
            rest["limit"] = QUANTIZER_NUMBER
        for name, item in value.items():
            yield from _excesses(item, key=name, **rest)
    elif isinstance(value, str) and key.rpartition("_")[2] in EVALUATED:
        if len(value) > TEXT:
            yield f"{key} is a text of {len(value):,} characters; {TEXT:,} are allowed"
            return
        for number in _NUMBER.findall(value):
            yield from _too_large(key, float(number), QUANTIZER_NUMBER)
    elif isinstance(value, int | float) and not isinstance(value, bool) and key not in UNBOUNDED:
        exact = limit == QUANTIZER_NUMBER or isinstance(value, int)
        bound = BITS if key.endswith("bits") else limit if exact else math.inf
        yield from _too_large(key, value, bound)


def _too_large(key: str, number: float, bound: float) -> Iterator[str]:
    if abs(number) > bound:
        yield f"{key} is {number:g}; at most {bound:,} is allowed"

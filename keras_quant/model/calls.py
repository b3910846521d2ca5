"""Whether the calls of a functional model's layers, as a configuration lists them, come to an end.

tf_keras makes the calls whose inputs are there, over and over until all are made; where the inputs
of one never are, it goes on forever ("this may lead to infinite loops for malformed network
configurations", tf_keras.src.engine.functional.reconstruct_from_config). So the calls are followed
here, before tf_keras makes any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keras_quant.errors import shown

Read = tuple[str, Any]
"""A layer's name, and which of its calls; the latter is a number, but for damage."""

_CONSTANT = "_CONSTANT_VALUE"  # stands for a layer's name in front of a constant
_FUNCTIONAL = ("Functional", "Model")


def endless_calls(config: Any) -> list[str]:
    """Lists the layers that can never be called, of models inside too.

    Args:
        config: of a model, in the words of Keras 2.
    Returns: one sentence for each.
    """
    found = []
    if isinstance(config, dict):
        layers = config.get("layers")
        if isinstance(layers, list) and "output_layers" in config:
            found += _stuck(layers)
    inside = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list):
        found += [problem for item in inside for problem in endless_calls(item)]
    return found


@dataclass(slots=True)
class _Layer:
    """What a layer reads at each call that is still to be made, and the numbers of those made.

    Attributes:
        is_input: it has one output, whichever call is asked for.
        firsts: the number of its first call; several where that depends on what is built.
    """

    is_input: bool
    firsts: tuple[int, ...]
    waiting: list[list[Read]] = field(default_factory=list)
    made: int = 0

    def has(self, call: Any) -> bool:
        """Whether a call was made."""
        return self.is_input or any(call in range(f, f + self.made) for f in self.firsts)


def _stuck(entries: list[Any]) -> list[str]:
    """The layers of one model that can never be called."""
    layers = _layers(entries)
    waiting_for: dict[str, list[str]] = {}
    ready = list(layers)
    while ready:
        name = ready.pop()
        layer = layers[name]
        while layer.waiting:
            missing = _missing(layer.waiting[0], layers)
            if missing is not None:
                waiting_for.setdefault(missing[0], []).append(name)
                break
            layer.waiting.pop(0)
            layer.made += 1
            ready += waiting_for.pop(name, [])
    return [
        f"layer {name} reads call {shown(call)} of layer {read}, which is never made"
        for name, layer in layers.items()
        if layer.waiting
        for read, call in [_missing(layer.waiting[0], layers) or ("", None)]
    ]


def _layers(entries: list[Any]) -> dict[str, _Layer]:
    """By name; what is no layer is left to tf_keras, which refuses it."""
    layers: dict[str, _Layer] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue
        kind = str(entry.get("class_name")).rpartition(">")[2]
        layer = layers.setdefault(
            entry["name"], _Layer(is_input=kind == "InputLayer", firsts=_firsts(kind, entry))
        )
        nodes = entry.get("inbound_nodes")
        layer.waiting += [list(_reads(node)) for node in nodes] if isinstance(nodes, list) else []
    return layers


def _firsts(kind: str, entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Which number a layer's first call has; that of a model links its own inputs and outputs."""
    config = entry.get("config")
    inside = config.get("layers") if isinstance(config, dict) else None
    if not isinstance(inside, list):
        return (0,)
    if kind in _FUNCTIONAL:
        return (1,)
    if kind != "Sequential":  # a class of somebody's
        return (0, 1)
    first = inside[0] if inside and isinstance(inside[0], dict) else {"class_name": "InputLayer"}
    return (int(first.get("class_name") == "InputLayer"),)


def _missing(reads: list[Read], layers: Mapping[str, _Layer]) -> Read | None:
    """What of that was not made yet; names of no layer are left to tf_keras."""
    return next(((n, c) for n, c in reads if n in layers and not layers[n].has(c)), None)


def _reads(node: Any) -> Iterator[Read]:
    """The calls whose outputs a call reads, in its keyword arguments too."""
    if isinstance(node, list) and len(node) in (3, 4) and isinstance(node[0], str):
        if node[0] != _CONSTANT:
            yield node[0], node[1]
        node = node[3:]
    if isinstance(node, dict | list):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _reads(item)

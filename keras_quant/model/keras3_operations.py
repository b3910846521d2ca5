"""Operations that Keras 3 saves beside layers, as layers of Keras 2.

`a + b`, `x / 255` and `keras.ops.relu(x)` stand in a Keras 3 model as operations of their own.

| operation | of two values | of a value x and a number c |
|---|---|---|
| Add | Add | Rescaling: x + c |
| Subtract | Subtract | Rescaling: x - c, -x + c |
| Multiply | Multiply | Rescaling: x * c |
| Maximum, Minimum | Maximum, Minimum | |
| TrueDivide, Divide | | Rescaling: x * (1 / c), which is x / c up to float32's rounding |
| Negative | | Rescaling: x * -1 |
| Relu, Sigmoid and the like | | Activation |
| Concatenate | Concatenate | |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Config = dict[str, Any]
_Line = Callable[[float], tuple[float, float]]
"""What a number makes of the value beside it: scale and offset."""

_MERGES = ("Add", "Subtract", "Multiply", "Maximum", "Minimum")
# By class: with the number behind the value, and in front of it.
_LINES: Mapping[str, tuple[_Line, _Line | None]] = {
    "Add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "Subtract": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "Multiply": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "TrueDivide": (lambda c: (1 / c, 0.0), None),
    "Divide": (lambda c: (1 / c, 0.0), None),
}
_FUNCTIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Silu": "swish",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
}
OPERATIONS = frozenset({*_MERGES, *_LINES, *_FUNCTIONS, "Negative", "Concatenate"})


def as_layer(saved: Config) -> Config:
    """Gives the layer that computes what an operation does.

    Args:
        saved: one of a functional model's layers, as Keras 3 words it.
    Returns: a layer as Keras 3 words it; the same where it is none of OPERATIONS.
    Raises:
        ValueError: the operation is no layer's, as of values of unlike ranks.
    """
    kind, name = saved.get("class_name"), saved.get("config", {}).get("name")
    nodes = saved.get("inbound_nodes") or []
    if kind not in OPERATIONS or not nodes:
        return saved
    if kind in _FUNCTIONS:
        return _layer(saved, "Activation", {"activation": _FUNCTIONS[kind]}, nodes)
    if kind == "Negative":
        return _layer(saved, "Rescaling", {"scale": -1.0, "offset": 0.0}, nodes)
    given = nodes[0]["args"]
    if len(given) == 1 and isinstance(given[0], list):  # of layers too
        return _layer(saved, kind, saved["config"], nodes)
    if len(nodes) > 1:
        raise ValueError(f"operation {name} ({kind}) is called {len(nodes)} times; once is read")
    are_values = [_is_value(item) for item in given]
    if kind in _LINES and len(given) == 2 and sum(are_values) == 1:
        return _with_number(saved, given)
    if kind in _MERGES and are_values == [True, True]:
        ranks = {len(value["config"]["shape"]) for value in given}
        if len(ranks) > 1:
            raise ValueError(
                f"operation {name} ({kind}) is of values of {min(ranks)} and {max(ranks)} axes; "
                "give them as many, with keras.layers.Reshape"
            )
        return _layer(saved, kind, {}, nodes)
    raise _no_layer(saved)


def _with_number(saved: Config, given: list[Any]) -> Config:
    """The Rescaling that computes with a value and a number."""
    behind, in_front = _LINES[saved["class_name"]]
    (value, number), line = (given, behind) if _is_value(given[0]) else (given[::-1], in_front)
    if line is None or not _is_number(number):
        raise _no_layer(saved)
    try:
        scale, offset = line(float(number))
    except ZeroDivisionError:
        raise _no_layer(saved) from None
    if not (math.isfinite(scale) and math.isfinite(offset)):
        raise _no_layer(saved)
    node = {**saved["inbound_nodes"][0], "args": [value], "kwargs": {}}
    return _layer(saved, "Rescaling", {"scale": scale, "offset": offset}, [node])


def _layer(saved: Config, kind: str, settings: Config, nodes: list[Any]) -> Config:
    # .h5 files give no modules.
    module = {"module": "keras.layers", "registered_name": None} if "module" in saved else {}
    config = {"name": saved["config"]["name"], **settings}
    return {**saved, **module, "class_name": kind, "config": config, "inbound_nodes": nodes}


def _is_value(item: Any) -> bool:
    return isinstance(item, dict) and item.get("class_name") == "__keras_tensor__"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _no_layer(saved: Config) -> ValueError:
    return ValueError(
        f"operation {saved['config'].get('name')} ({saved['class_name']}) is none that is read: "
        "sums, differences and products of two values, or of a value and a number, and quotients "
        "by a number"
    )

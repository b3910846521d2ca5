"""Damage to fields of TFLite and ONNX files, through the objects of their schemas."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from google.protobuf.message import Message

from tests.fuzz.mutators.raw import damage_bytes

_NUMBERS = (0, 1, -1, 2, 3, 5, 9, 17, 127, 255, 1000, 2**16, 2**31 - 1, -(2**31))
_FLOATS = (0.0, 1.0, -1.0, float("nan"), float("inf"), 1e-40, 3e38, 0.3)
_TRIES = 20
_CHANGES = (1, 1, 1, 2, 4)
_OPERATORS = (
    "Conv",
    "Relu",
    "Add",
    "QuantizeLinear",
    "DequantizeLinear",
    "MatMul",
    "Unknown",
    "If",
)


def damage_tflite(content: bytes, chance: Random) -> bytes:
    """Changes fields of a TFLite file; some bytes, where nothing can be written that has them."""
    for _ in range(_TRIES):
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        for _ in range(chance.choice(_CHANGES)):
            _change_flat(chance.choice(_slots(model)), chance)
        builder = flatbuffers.Builder(len(content))
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except Exception:  # flatbuffers has its own of each type that does not fit
            continue
        return bytes(builder.Output())
    return damage_bytes(content, chance)


Slot = tuple[Callable[[], Any], Callable[[Any], None]]
"""How a field is read and set."""


def _slots(root: Any) -> list[Slot]:
    """All fields of all objects below a root; large arrays count once."""
    found: list[Slot] = []
    waiting = [root]
    for item in waiting:
        for name in sorted(vars(item)):
            found.append(
                (lambda i=item, n=name: getattr(i, n), lambda v, i=item, n=name: setattr(i, n, v))
            )
            value = getattr(item, name)
            inside = value if isinstance(value, list) else [value]
            waiting += [one for one in inside if type(one).__name__.endswith("T")]
    return found


def _change_flat(slot: Slot, chance: Random) -> None:
    read, put = slot
    value = read()
    if isinstance(value, np.ndarray):
        put(_changed_array(value, chance))
    elif isinstance(value, list):
        put(_changed_list(value, chance))
    elif isinstance(value, bool):
        put(not value)
    elif isinstance(value, int):
        put(chance.choice([*_NUMBERS, value + 1, value - 1]))
    elif isinstance(value, float):
        put(chance.choice(_FLOATS))
    elif isinstance(value, bytes | str):
        content = value.encode() if isinstance(value, str) else value
        put(chance.choice([b"", b"image", damage_bytes(content, chance)]))
    else:
        put(None)


def _changed_array(array: np.ndarray, chance: Random) -> np.ndarray:
    if not array.size or chance.random() < 0.3:
        return array[: len(array) // 2]
    damaged, info = array.copy(), array.dtype
    values = _FLOATS if info.kind == "f" else _NUMBERS
    with np.errstate(all="ignore"):
        value = np.array(chance.choice(values)).astype(info)
    damaged.reshape(-1)[chance.randrange(array.size)] = value
    return damaged


def _changed_list(items: list[Any], chance: Random) -> list[Any]:
    if not items:
        return items
    place, how = chance.randrange(len(items)), chance.randrange(4)
    if how == 0:
        return items[:place] + items[place + 1 :]
    if how == 1:
        return [*items, items[place]]
    if how == 2:
        return chance.sample(items, len(items))
    changed = list(items)
    if isinstance(changed[place], int):
        changed[place] = chance.choice(_NUMBERS)
    return changed


def damage_onnx(content: bytes, chance: Random) -> bytes:
    """Changes fields of an ONNX file."""
    model = onnx.load_model_from_string(content)
    for _ in range(chance.choice(_CHANGES)):
        messages = _messages(model)
        # Not every tensor counts as much as the model itself.
        kind = chance.choice(sorted({type(item).__name__ for item in messages}))
        of_kind = [item for item in messages if type(item).__name__ == kind]
        with contextlib.suppress(ValueError, TypeError):  # no such number in a field of its type
            _change_message(chance.choice(of_kind), chance)
    damaged: bytes = model.SerializeToString()
    return damage_bytes(content, chance) if damaged == content else damaged


def _messages(root: Message) -> list[Message]:
    found = [root]
    for item in found:
        for field, value in item.ListFields():
            if field.message_type is not None:
                found += value if _is_repeated(value) else [value]
    return found


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "append") or hasattr(value, "add")


def _change_message(message: Message, chance: Random) -> None:
    fields = message.ListFields()
    if not fields:
        return
    field, value = chance.choice(fields)
    if _is_repeated(value):
        _change_repeated(message, field.name, chance)
    elif field.message_type is not None or chance.random() < 0.15:
        message.ClearField(field.name)
    else:
        _set_scalar(message, field.name, value, chance)


def _change_repeated(message: Message, name: str, chance: Random) -> None:
    """Removes, doubles or mixes what a field holds several of."""
    values = list(getattr(message, name))
    values = [
        type(v).FromString(v.SerializeToString()) if hasattr(v, "ListFields") else v for v in values
    ]
    place, how = chance.randrange(len(values)), chance.randrange(4)
    if how == 0:
        values.pop(place)
    elif how == 1:
        values.append(values[place])
    elif how == 2:
        chance.shuffle(values)
    elif isinstance(values[place], int) and not isinstance(values[place], bool):
        values[place] = chance.choice(_NUMBERS)
    elif isinstance(values[place], float):
        values[place] = chance.choice(_FLOATS)
    elif isinstance(values[place], str):
        values[place] = chance.choice(["", values[0], values[-1], "nowhere"])
    message.ClearField(name)
    getattr(message, name).extend(values)


def _set_scalar(message: Message, name: str, value: Any, chance: Random) -> None:
    if isinstance(value, bytes):
        setattr(message, name, damage_bytes(value, chance))
    elif isinstance(value, str):
        setattr(message, name, chance.choice(["", "x", f"{value}_", *_OPERATORS]))
    elif isinstance(value, float):
        setattr(message, name, chance.choice(_FLOATS))
    else:
        setattr(message, name, chance.choice([*_NUMBERS, value + 1]))

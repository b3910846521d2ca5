"""Damage to fields of JSON and YAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

from tests.fuzz.mutators.raw import damage_bytes

DEPTHS = (50, 500, 50_000)

_DEEP = "nested deep {}"  # a text that lists take the place of, which json would not write
_LONG = "a number of {} digits"
VALUES: tuple[Any, ...] = (
    *(None, True, False, "", "text", "\0", "../..", "é" * 300, "x" * 100_000),
    *(0, 1, -1, 2, 3, 9, 255, 10**9, -(10**12), 2**63, 10**30),
    *(0.3, -0.5, 1e-300, 1e300, float("nan"), float("inf"), float("-inf")),
    *([], {}, [None], [[]], [1, "2"], {"a": 1}, {"class_name": "Dense", "config": {}}),
    *("Dense", "relu", "float", "4", "quantized_bits(4,0,1)", "1e999", "NaN", "2026-13-99"),
    *(_DEEP.format(depth) for depth in DEPTHS),
    *(_LONG.format(digits) for digits in (400, 5000)),
)

_YAML = (
    *("0x", "2001-99-99", "2001-12-14t21:59:43.10-99:99", "!!python/object:os.system x", "!!int a"),
    *(
        "*nobody",
        "&a [*a, *a]",
        "<<: 1",
        "\t- x",
        "? [1]",
        "'",
        "- - - -",
        "%YAML 9.9",
        "!!binary x",
    ),
    *("1_000", "0b2", "~", "@all", "key: value: value", "\x07", "190:20:30.15", "!!set {a, b}"),
)


def damage_json(content: bytes, chance: Random) -> bytes:
    """Changes a field or a few of JSON, or some bytes where it is none."""
    return _damage(content, chance, json.loads, _json)


def damage_yaml(content: bytes, chance: Random) -> bytes:
    """Changes a field or a few of YAML, or puts what YAML has rules for into a line."""
    if chance.random() < 0.3:
        lines = content.decode().splitlines() or [""]
        place = chance.randrange(len(lines))
        key, colon, _ = lines[place].partition(":")
        lines[place] = f"{key}{colon} {chance.choice(_YAML)}"
        return "\n".join(lines).encode()
    return _damage(content, chance, yaml.safe_load, _yaml)


def damage_tree(tree: Any, chance: Random) -> Any:
    """Changes one to three fields of nested dicts and lists; the root too, now and then."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        places = _places(tree)
        if not places or chance.random() < 0.03:
            return chance.choice(VALUES)
        _change(*chance.choice(places), chance, places)
    return tree


def _damage(
    content: bytes,
    chance: Random,
    read: Callable[[str], Any],
    write: Callable[[Any], str],
) -> bytes:
    try:
        tree = read(content.decode())
    except Exception:
        return damage_bytes(content, chance)
    text = write(damage_tree(tree, chance))
    for depth in DEPTHS:
        text = text.replace(f'"{_DEEP.format(depth)}"', "[" * depth + "]" * depth)
    for digits in (400, 5000):
        text = text.replace(f'"{_LONG.format(digits)}"', "9" * digits)
    return text.encode("utf-8", "surrogatepass")


def _json(tree: Any) -> str:
    return json.dumps(tree)


def _yaml(tree: Any) -> str:
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=10**6)
    for value in VALUES:  # quoted as JSON quotes them, so that they are found
        if isinstance(value, str) and value.startswith((_DEEP[:6], _LONG[:8])):
            text = text.replace(value, f'"{value}"')
    return text


Place = tuple[Any, Any]
"""A dict or list, and a key or index in it."""


def _places(tree: Any) -> list[Place]:
    found: list[Place] = []
    waiting = [tree]
    for inside in waiting:
        keys = (
            inside if isinstance(inside, dict) else range(len(inside)) if _is_list(inside) else ()
        )
        for key in keys:
            found.append((inside, key))
            waiting.append(inside[key])
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _change(inside: Any, key: Any, chance: Random, places: list[Place]) -> None:
    how = chance.random()
    if how < 0.6:
        inside[key] = chance.choice(VALUES)
    elif how < 0.75:
        del inside[key]
    elif how < 0.85:  # what stands elsewhere
        other, its_key = chance.choice(places)
        inside[key] = json.loads(json.dumps(other[its_key]))
    elif _is_list(inside):
        inside.append(json.loads(json.dumps(inside[key])))
    else:
        inside[chance.choice(["unknown", "", f"{key}_", str(key).upper()])] = inside.pop(key)

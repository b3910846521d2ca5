"""Damage to arrays in .npy files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from random import Random

import numpy as np

_HEADERS: tuple[tuple[bytes, tuple[bytes, ...]], ...] = (
    (
        rb"'shape': \([^)]*\)",
        (b"(1000000000,)", b"(-1,)", b"(0, 5)", b"()", b"(3.5,)", b"(2, -3, -1)", b"'x'", b"None"),
    ),
    (
        rb"'descr': '[^']*'",
        (
            b"'|O'",
            b"'<f9'",
            b"'<U1000000000'",
            b"'|V0'",
            b"[('a', '<i4')]",
            b"'<M8[s]'",
            b"7",
            b"''",
        ),
    ),
    (rb"'fortran_order': \w+", (b"'yes'", b"None", b"1")),
)


def _header(content: bytes, chance: Random) -> bytes:
    """Another shape, type or order than the bytes have, in as many bytes."""
    pattern, values = chance.choice(_HEADERS)
    value = chance.choice(values)
    start = int.from_bytes(content[8:10], "little") + 10
    header = re.sub(
        pattern, lambda found: found[0].split(b":")[0] + b": " + value, content[10:start]
    )
    header = header.rstrip().ljust(start - 10 - 1) + b"\n"
    return content[:8] + len(header).to_bytes(2, "little") + header + content[start:]


def _with_nan(array: np.ndarray, chance: Random) -> np.ndarray:
    damaged = array.astype(np.float32) if array.dtype.kind in "biuf" else np.zeros(3, np.float32)
    if damaged.size:
        value = chance.choice([np.nan, np.inf, -np.inf, 3e38, -1.0, 1e9])
        damaged.reshape(-1)[chance.randrange(damaged.size)] = value
    return damaged


def _of_other_type(array: np.ndarray, chance: Random) -> np.ndarray:
    kinds = ["i1", "<i8", ">f4", "f2", "f8", "c8", "?", "S4", "U7", "u4"]
    with np.errstate(all="ignore"):
        return array.astype(chance.choice(kinds))


def _of_other_shape(array: np.ndarray, chance: Random) -> np.ndarray:
    changes: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a[:0],
        lambda a: a[:1],
        lambda a: a[: len(a) // 2] if a.ndim else a,
        lambda a: a[..., np.newaxis],
        lambda a: a.reshape(-1),
        lambda a: a.T,
        lambda a: np.concatenate([a, a]) if a.ndim else a,
        lambda a: a.reshape(-1)[0] if a.size else a,
        lambda a: a[..., :0] if a.ndim else a,
    ]
    try:
        return np.asarray(chance.choice(changes)(array))
    except IndexError:  # a scalar has no rows
        return np.array([array])


def _of_other_values(array: np.ndarray, chance: Random) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        return np.array(chance.choice(["", "{", "null", "text"]))
    values = [0, 1, -1, 255, 2**40, -(2**62)]
    with np.errstate(all="ignore"):
        return np.full_like(array, np.array(chance.choice(values)).astype(array.dtype))


_CHANGES = (_with_nan, _of_other_type, _of_other_shape, _of_other_values)


def damage_npy(content: bytes, chance: Random) -> bytes:
    """Changes an array's header alone, or makes it another array."""
    if chance.random() < 0.4:
        return _header(content, chance)
    array = chance.choice(_CHANGES)(np.load(io.BytesIO(content)), chance)
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()

"""Damage to attributes and datasets of HDF5 files."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import h5py
import numpy as np

from tests.fuzz.mutators.raw import damage_bytes
from tests.fuzz.mutators.trees import damage_json

_VALUES: tuple[Any, ...] = (
    *("", "text", -1, 0, 10**12, float("nan"), 0.3, [1, 2], ["a", "b"], b"\xff\xfe", "x" * 60_000),
    *(np.zeros((2, 2), np.float32), h5py.Empty("f4"), np.bytes_(b"layer"), np.array([b"", b"x"])),
)
_MOST_ELEMENTS = 10**6


def damage_hdf5(content: bytes, chance: Random) -> bytes:
    """Changes one or two attributes, datasets or groups."""
    stream = io.BytesIO(content)
    try:
        with h5py.File(stream, "r+") as file:
            for _ in range(chance.choice([1, 1, 2])):
                _change(file, chance)
    except (OSError, ValueError, TypeError, RuntimeError):  # what HDF5 itself does not write
        return damage_bytes(content, chance)
    return stream.getvalue()


def _change(file: h5py.File, chance: Random) -> None:
    objects = [file, *_inside(file)]
    attributes = [(item, name) for item in objects for name in sorted(item.attrs)]
    if attributes and chance.random() < 0.4:
        _change_attribute(*chance.choice(attributes), chance)
        return
    named = objects[1:]
    datasets = [item for item in named if isinstance(item, h5py.Dataset)]
    if datasets and chance.random() < 0.75:
        _change_dataset(file, chance.choice(datasets), chance)
    elif named:
        _change_place(file, chance.choice(named).name, chance)


def _inside(group: h5py.Group) -> list[Any]:
    found: list[Any] = []
    group.visititems(lambda name, item: found.append(item))
    return found


def _change_attribute(item: Any, name: str, chance: Random) -> None:
    value = item.attrs[name]
    if chance.random() < 0.15:
        del item.attrs[name]
    elif isinstance(value, str) and value.startswith("{") and chance.random() < 0.9:
        text = damage_json(value.encode(), chance).decode(errors="replace").replace("\0", " ")
        del item.attrs[name]
        item.attrs[name] = text[:60_000]  # an attribute holds 64 kB
    else:
        del item.attrs[name]
        item.attrs[name] = chance.choice(_VALUES)


def _change_dataset(file: h5py.File, dataset: h5py.Dataset, chance: Random) -> None:
    """Puts other numbers, another shape or another type in its place."""
    name, is_stored = dataset.name, dataset.dtype.kind in "iuf" and dataset.size is not None
    is_stored = is_stored and dataset.size < _MOST_ELEMENTS  # another change may claim more
    numbers = np.asarray(dataset[()]) if is_stored else np.zeros(3, np.float32)
    changes: list[Callable[[], Any]] = [
        lambda: np.full_like(numbers, chance.choice([0, 1, -1, 127])),
        lambda: (numbers * chance.choice([np.nan, np.inf, 1e30, 1e-30, -1.0])).astype("f4"),
        lambda: numbers.reshape(-1)[:-1],
        lambda: numbers[np.newaxis],
        lambda: numbers.T,
        lambda: numbers.astype(chance.choice(["f8", "f2", "i1", "i8", ">f4", "u1"])),
        lambda: np.array([b"text"] * 3),
        lambda: h5py.Empty("f4"),
        lambda: np.zeros((0, 4), np.float32),
        lambda: np.array([("a", 1)], [("name", "S4"), ("value", "i4")]),
    ]
    with np.errstate(all="ignore"):
        value = chance.choice(changes)()
    del file[name]
    if chance.random() < 0.1:  # numbers that are nowhere stored
        file.create_dataset(name, (chance.choice([10**6, 10**10]), 1000), "f4", chunks=(10, 1000))
    else:
        file[name] = value


def _change_place(file: h5py.File, name: str, chance: Random) -> None:
    """Removes, renames, doubles or replaces a group or a dataset."""
    how = chance.randrange(5)
    if how == 0:
        del file[name]
    elif how == 1:
        file.move(name, f"{name}x")
    elif how == 2:
        file.copy(file[name], file, f"{name}_again")
    elif how == 3:
        del file[name]
        file[name] = chance.choice([1.0, "text", np.zeros(3)])
    else:
        del file[name]
        file[name] = h5py.SoftLink(chance.choice(["/", "/nowhere", name]))

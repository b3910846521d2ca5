"""Damage to zip files: to their members, and to what they say of these."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from random import Random

from tests.fuzz.mutators.arrays import damage_npy
from tests.fuzz.mutators.hdf5 import damage_hdf5
from tests.fuzz.mutators.raw import Mutator, damage_bytes
from tests.fuzz.mutators.trees import damage_json

_OF_MEMBERS: Mapping[str, Mutator] = {
    ".json": damage_json,
    ".h5": damage_hdf5,
    ".npy": damage_npy,
}
_NAMES = (
    "",
    "../outside.json",
    "/absolute",
    "pickle.pkl",
    "a" * 300,
    "config.json/",
    "x_train.npy",
)
_MOST_CLAIMED = 2**31
# Fields of a central directory's entry (PKWARE's APPNOTE 6.3.10, 4.3.12): offset, bytes.
_FIELDS = {"flags": (8, 2), "method": (10, 2), "crc": (16, 4), "packed": (20, 4), "size": (24, 4)}
_ENTRY = b"PK\x01\x02"

Members = list[tuple[str, bytes]]


def damage_zip(content: bytes, chance: Random) -> bytes:
    """Changes a member by its kind, most often; or which there are, or what is said of them."""
    if chance.random() < 0.15:
        return _damage_entry(content, chance)
    members = _read(content)
    how = chance.random()
    if how < 0.65:
        place = chance.randrange(len(members))
        name, inside = members[place]
        members[place] = (name, _mutator(name, chance)(inside, chance))
    else:
        members = chance.choice(_OF_LISTS)(members, chance)
    return _write(members, packed=chance.random() < 0.2)


def _mutator(name: str, chance: Random) -> Mutator:
    known = next((m for suffix, m in _OF_MEMBERS.items() if name.endswith(suffix)), damage_bytes)
    return known if chance.random() < 0.85 else damage_bytes


def _without_one(members: Members, chance: Random) -> Members:
    place = chance.randrange(len(members))
    return members[:place] + members[place + 1 :]


def _renamed(members: Members, chance: Random) -> Members:
    place = chance.randrange(len(members))
    name = chance.choice([*_NAMES, members[place][0].upper(), f"x{members[place][0]}"])
    return [(name if i == place else old, inside) for i, (old, inside) in enumerate(members)]


def _doubled(members: Members, chance: Random) -> Members:
    name, inside = chance.choice(members)
    return [*members, (name, damage_bytes(inside, chance))]


def _swapped(members: Members, chance: Random) -> Members:
    contents = [inside for _, inside in members]
    chance.shuffle(contents)
    return list(zip((name for name, _ in members), contents, strict=True))


def _emptied(members: Members, chance: Random) -> Members:
    return []


_OF_LISTS: tuple[Callable[[Members, Random], Members], ...] = (
    *(_without_one, _renamed, _doubled, _swapped, _emptied),
)


def _damage_entry(content: bytes, chance: Random) -> bytes:
    """A field of the central directory becomes another: encrypted, of a size that is not there."""
    entries = [i for i in range(len(content)) if content.startswith(_ENTRY, i)]
    if not entries:
        return damage_bytes(content, chance)
    offset, width = _FIELDS[chance.choice(list(_FIELDS))]
    place = chance.choice(entries) + offset
    value = chance.choice([1, 8, 99, _MOST_CLAIMED, 2**32 - 1]) % 2 ** (8 * width)
    return content[:place] + value.to_bytes(width, "little") + content[place + width :]


def _read(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _write(members: Members, *, packed: bool) -> bytes:
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", kind) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, inside in members:  # with the same date, whenever it is written
            archive.writestr(zipfile.ZipInfo(name), inside, kind)
    return stream.getvalue()

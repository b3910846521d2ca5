"""Damage to bytes, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

Mutator = Callable[[bytes, Random], bytes]
"""Gives other bytes than it was given; the same for the same state of the generator."""

MOST_FLIPS = 8
LONGEST = 64  # bytes that are inserted at a place


def _flip(content: bytes, chance: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.randint(1, MOST_FLIPS)):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _cut(content: bytes, chance: Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _insert(content: bytes, chance: Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    return content[:place] + chance.randbytes(chance.randint(1, LONGEST)) + content[place:]


def _zero(content: bytes, chance: Random) -> bytes:
    start, stop = _region(content, chance)
    return content[:start] + bytes(stop - start) + content[stop:]


def _remove(content: bytes, chance: Random) -> bytes:
    start, stop = _region(content, chance)
    return content[:start] + content[stop:]


def _repeat(content: bytes, chance: Random) -> bytes:
    start, stop = _region(content, chance)
    return content[:stop] + content[start:]


def _set_word(content: bytes, chance: Random) -> bytes:
    """A length or an offset of 4 bytes becomes another: 0, the greatest, or one more."""
    place = chance.randrange(len(content)) & ~3
    word = int.from_bytes(content[place : place + 4], "little")
    word = chance.choice([0, 2**31 - 1, 2**32 - 1, 2**24, (word + 1) % 2**32, word ^ 2**31])
    return content[:place] + word.to_bytes(4, "little") + content[place + 4 :]


_DAMAGES = (_flip, _flip, _cut, _insert, _zero, _remove, _repeat, _set_word)


def damage_bytes(content: bytes, chance: Random) -> bytes:
    """Flips bits, or cuts, inserts, zeroes, removes or repeats some bytes."""
    return chance.choice(_DAMAGES)(content, chance) if content else chance.randbytes(LONGEST)


def _region(content: bytes, chance: Random) -> tuple[int, int]:
    start = chance.randrange(len(content))
    return start, min(len(content), start + chance.choice([1, 4, 16, 256, 4096]))

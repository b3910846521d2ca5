"""What a user lets a model cost: "size=0.5", "bitops=w4a8", "energy=20uJ", "latency_ms=0.8"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from keras_quant.errors import UsageError, close_names
from keras_quant.schemes.bits import parse_bits

QUANTITIES = {"size": "bytes", "bitops": "", "energy": "nJ", "latency_ms": "ms"}
"""What can be limited, and in which unit it is counted."""

_FACTORS = {
    "size": {"B": 1.0, "kB": 1e3, "MB": 1e6},
    "bitops": {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9},
    "energy": {"nJ": 1.0, "uJ": 1e3, "mJ": 1e6},
    "latency_ms": {"": 1.0, "ms": 1.0},
}
_NUMBER = re.compile(r"(?P<number>[0-9.]+(?:e[+-]?[0-9]+)?)\s*(?P<unit>[A-Za-z]*)")
_HELP = {
    "size": "size=0.5 (of 8 bits everywhere), size=40kB, size=w3a8 (what that costs)",
    "bitops": "bitops=0.4 (of 8 bits everywhere), bitops=2G, bitops=w4a4",
    "energy": "energy=0.5 (of 8 bits everywhere), energy=20uJ, energy=w4a8",
    "latency_ms": "latency_ms=0.8",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit; one of share, amount and bits says it.

    Attributes:
        quantity: of QUANTITIES.
        text: as it was given.
        share: of what 8 bits everywhere cost.
        amount: in the quantity's unit.
        bits: what the usual scheme of that name costs, as in "w3a8".
    """

    quantity: str
    text: str
    share: float | None = None
    amount: float | None = None
    bits: str | None = None


def parse_budget(text: str) -> Budget:
    """Reads one of `--budget`.

    Raises:
        UsageError: it is none, with what is allowed.
    """
    quantity, equals, value = (part.strip() for part in text.partition("="))
    if not equals or quantity not in QUANTITIES:
        close = close_names(quantity, QUANTITIES)
        raise UsageError(f"--budget {text!r}: write one of {'; '.join(_HELP.values())}{close}")
    if (number := _NUMBER.fullmatch(value)) is not None:
        return _of_number(quantity, text, number["number"], number["unit"])
    if quantity != "latency_ms" and _are_bits(value):
        return Budget(quantity=quantity, text=text, bits=value)
    raise UsageError(f"--budget {text!r}: write {_HELP[quantity]}")


def _of_number(quantity: str, text: str, number: str, unit: str) -> Budget:
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    factors = _FACTORS[quantity]
    is_share = unit == "" and value <= 1 and quantity != "latency_ms"
    if value <= 0 or not (is_share or unit in factors):
        units = " or ".join(filter(None, factors))
        needed = f"; above 1 a unit is needed: {units}" if "" not in factors else ""
        raise UsageError(f"--budget {text!r}: write {_HELP[quantity]}; above 0{needed}")
    if is_share:
        return Budget(quantity=quantity, text=text, share=value)
    return Budget(quantity=quantity, text=text, amount=value * factors[unit])


def _are_bits(text: str) -> bool:
    try:
        return None not in parse_bits(text)
    except UsageError:
        return False

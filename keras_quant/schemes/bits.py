"""The shorthand of a scheme: "4", "w4a8", "wta4", "float", and 'conv1=w8a8'."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from keras_quant.errors import SchemeError
from keras_quant.schemes.scheme import (
    ACTIVATION_8,
    FLOAT,
    TERNARY,
    QuantSpec,
    Rule,
    Scheme,
    is_float,
)

MAX_BITS_WITH_WIDE_SUMS = 3

_BITS = re.compile(r"(?:w(?P<w>[1-8]|t|f))?(?:a(?P<a>[1-8]|f))?", re.IGNORECASE)
_BITS_HELP = (
    "4, w4a8, w1a4 (binary weights), wta4 (ternary weights), w4af (float activations), float"
)


def parse_bits(text: str) -> tuple[QuantSpec | None, QuantSpec | None]:
    """Reads "4", "w4a8", "w8", "a8", "wta4" or "float" into (weight, activation).

    Raises:
        SchemeError: the text is none of these, or bits are outside 1..8.
    """
    word = text.strip().lower()
    if word == "float":
        return FLOAT, FLOAT
    if word.isdigit():
        word = f"w{word}a{word}"
    found = _BITS.fullmatch(word)
    if not found or not word:
        raise SchemeError(
            f"bits {text!r} are not understood: bits are 1 to 8, written {_BITS_HELP}"
        )
    return _spec(found["w"], weight=True), _spec(found["a"], weight=False)


def _spec(symbol: str | None, *, weight: bool) -> QuantSpec | None:
    if symbol is None or symbol in "tf":
        return {None: None, "t": TERNARY, "f": FLOAT}[symbol]
    bits = int(symbol)
    return QuantSpec(bits=bits, narrow_range=weight and bits != 2)


ENDS = ("8", "same", "float")
SUMS = ("8", "same")


def scheme_from_bits(text: str, *, ends: str = "8", sums: str | None = None) -> Scheme:
    """Makes the usual scheme for bits such as "4" or "w4a8".

    First and last layer keep 8-bit weights, unless `ends` says otherwise, and a global average,
    which feeds the last layer, is held in 8 bits: together they are under 3 % of a ResNet-20's
    operations. Up to 3 bits, so are the sums of residual nets, and rounded to their bits where a
    layer with weights reads them: a sum goes through all blocks, and would be rounded again in
    each.

    Args:
        ends: of the weights of first and last layer, one of ENDS: 8 bits, the same as of the
            others, or float.
        sums: of residual nets, one of SUMS: 8 bits, or the same as of other activations; None is 8
            up to MAX_BITS_WITH_WIDE_SUMS.
    Raises:
        SchemeError: see parse_bits; "w4" or "a4" alone is also refused, and sums without bits.
    """
    if ends not in ENDS:
        raise SchemeError(f"--first-last {ends!r} is not known; {', '.join(ENDS)} are")
    if sums not in (*SUMS, None):
        raise SchemeError(f"--sums {sums!r} is not known; {', '.join(SUMS)} are")
    weight, activation = parse_bits(text)
    if weight is None or activation is None:
        raise SchemeError(f"bits {text!r} name only one of weights and activations: write w4a8")
    if sums is not None and activation.is_float:
        raise SchemeError(f"--sums {sums}: bits {text!r} leave activations in float, and sums too")
    usual = activation.bits <= MAX_BITS_WITH_WIDE_SUMS
    wide_sums = usual if sums is None else sums == "8" and activation.bits < ACTIVATION_8.bits
    rules = [
        Rule(
            match="*",
            weight=weight,
            activation=activation,
            input=activation if wide_sums else None,
        )
    ]
    kept = None if weight.is_float else {"8": QuantSpec(bits=8), "float": FLOAT}.get(ends)
    if kept or wide_sums:
        rules.append(Rule(match="@first", weight=kept))
        rules.append(Rule(match="@last", weight=kept, input=ACTIVATION_8 if wide_sums else None))
    if wide_sums:
        rules.append(Rule(match="type:Add", activation=ACTIVATION_8, optional=True))
    if not activation.is_float:
        average = Rule(match="type:GlobalAveragePooling*", activation=ACTIVATION_8, optional=True)
        rules.append(average)
    named = "" if ends == "8" else f"-{ends}-ends"
    named += "" if wide_sums == usual else f"-{sums}-sums"
    return Scheme(name=_bits_name(weight, activation) + named, rules=tuple(rules))


def _bits_name(weight: QuantSpec, activation: QuantSpec) -> str:
    if weight.is_float and activation.is_float:
        return "float"
    symbol = {FLOAT: "f", TERNARY: "t"}
    return f"w{symbol.get(weight, weight.bits)}a{symbol.get(activation, activation.bits)}"


def with_overrides(scheme: Scheme, overrides: Iterable[str]) -> Scheme:
    """Adds rules written "PATTERN=BITS" ("conv1=w8a8", "block2_*=w2", "logits=float").

    Raises:
        SchemeError: an override is not of that form.
    """
    rules = []
    for text in overrides:
        pattern, equals, bits = text.rpartition("=")
        if not equals or not pattern.strip():
            raise SchemeError(f"--set {text!r}: write PATTERN=BITS, as in 'conv1=w8a8'")
        weight, activation = parse_bits(bits)
        rules.append(Rule(match=pattern.strip(), weight=weight, activation=activation))
    if not rules:
        return scheme
    return dataclasses.replace(scheme, name=f"{scheme.name}+set", rules=(*scheme.rules, *rules))


def freed(scheme: Scheme, *, symmetric: bool = False) -> Scheme:
    """Lets activations, and the input, have any scales in place of powers of two.

    Args:
        symmetric: real 0 stays code 0; else zero points are free too.
    Returns: the scheme itself where it leaves everything in float.
    """
    if is_float(scheme):
        return scheme

    def free(spec: QuantSpec | None) -> QuantSpec | None:
        if spec is None or spec.is_float:
            return spec
        return dataclasses.replace(spec, power_of_two=False, symmetric=symmetric)

    rules = [
        dataclasses.replace(rule, activation=free(rule.activation), input=free(rule.input))
        for rule in scheme.rules
    ]
    pixels = Rule(match="@input", activation=free(ACTIVATION_8))
    return dataclasses.replace(scheme, rules=(pixels, *rules))

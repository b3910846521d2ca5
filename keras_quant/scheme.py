"""The scheme: which layer gets how many bits, said once for every method and command.

A scheme is a list of rules in order; for each layer the last rule that matches wins, key by
key. As a file:

    format: 1
    name: w4a4
    rules:
      - match: "*"                  # a name pattern, type:Conv2D, @first, @last or @input
        weight: {bits: 4}
        activation: {bits: 4}
      - match: "@first"
        weight: {bits: 8}
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_quant.errors import SchemeError, close_names

FORMAT = 1
FLOAT_BITS = 32
MAX_BITS_WITH_WIDE_SUMS = 3
SELECTORS = ("@first", "@last", "@input")
PRESETS = Path(__file__).with_name("schemes")

_BITS = re.compile(r"(?:w(?P<w>[1-8]|t|f))?(?:a(?P<a>[1-8]|f))?", re.IGNORECASE)
_BITS_HELP = (
    "4, w4a8, w1a4 (binary weights), wta4 (ternary weights), w4af (float activations), float"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """Which numbers a tensor may hold.

    Attributes:
        bits: 1 to 8, or 32 for float. One-bit weights are -1 and +1.
        narrow_range: weights leave out the lowest code, so that codes are symmetric: 15 levels
            at 4 bits, and -1, 0, +1 (ternary) at 2. Without it 2 bits mean -2, -1, 0, +1.
            Always False for activations: a ReLU's use 0 .. 2**bits - 1.
        per_channel: weights have one scale an output channel, else one a tensor.
    """

    bits: int
    narrow_range: bool = True
    per_channel: bool = True

    @property
    def is_float(self) -> bool:
        return self.bits == FLOAT_BITS

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        return "ternary" if self.bits == 2 and self.narrow_range else str(self.bits)


FLOAT = QuantSpec(bits=FLOAT_BITS)
BINARY = QuantSpec(bits=1)
TERNARY = QuantSpec(bits=2)
ACTIVATION_8 = QuantSpec(bits=8, narrow_range=False)
_WORDS = {"float": FLOAT, "binary": BINARY, "ternary": TERNARY}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What layers that match get; a key that is None leaves what earlier rules said.

    Attributes:
        match: a glob over layer names, "type:CLASS", "@first" or "@last" (the first and last
            layer with weights), or "@input" (the model's input).
        weight: for the kernel.
        activation: for the layer's output, after the batch norm and ReLU that follow it.
        input: what a layer with weights reads at most: wider values, such as the sum of a
            residual net, are rounded again in front of it.
        optional: the rule may match nothing (presets use it); else that is an error.
    """

    match: str
    weight: QuantSpec | None = None
    activation: QuantSpec | None = None
    input: QuantSpec | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Rules in order, with a name to call them by."""

    name: str
    rules: tuple[Rule, ...]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Layers that are quantized as one: a convolution with its batch norm and ReLU, say.

    Attributes:
        names: Keras layer names; the first one names the block.
        types: their class names without QKeras' leading Q.
        has_weights: whether there is a kernel to quantize.
        is_input: whether this is the model's input.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    has_weights: bool = False
    is_input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBits:
    """What a scheme says for one block."""

    weight: QuantSpec
    activation: QuantSpec
    input: QuantSpec = FLOAT


def resolve(scheme: Scheme, blocks: Sequence[Block]) -> dict[str, BlockBits]:
    """Applies a scheme's rules to a model's blocks.

    Returns: for each block's first name its bits; float where no rule speaks. The input is
    8 bits wide unless a rule says otherwise.

    Raises:
        SchemeError: rules that match no block, with close names.
    """
    found = {b.names[0]: BlockBits(weight=FLOAT, activation=FLOAT) for b in blocks}
    if not is_float(scheme):
        found |= {
            b.names[0]: BlockBits(weight=FLOAT, activation=ACTIVATION_8)
            for b in blocks
            if b.is_input
        }
    problems = []
    for index, rule in enumerate(scheme.rules):
        matched = [b for b in blocks if _matches(rule.match, b, blocks)]
        if not matched and not rule.optional:
            names = [n for b in blocks for n in (*b.names, *(f"type:{t}" for t in b.types))]
            close = close_names(rule.match, [*names, *SELECTORS])
            problems.append(
                f"rules[{index}]: {rule.match!r} matches none of {len(blocks)} layers"
                f"{close or '; layers are ' + ', '.join(b.names[0] for b in blocks)}"
            )
        for block in matched:
            old = found[block.names[0]]
            found[block.names[0]] = BlockBits(
                weight=rule.weight if rule.weight and block.has_weights else old.weight,
                activation=rule.activation or old.activation,
                input=rule.input or old.input,
            )
    if problems:
        raise SchemeError(f"scheme {scheme.name!r}: " + "; ".join(problems))
    return found


def is_float(scheme: Scheme) -> bool:
    """Whether no rule quantizes anything."""
    specs = [spec for rule in scheme.rules for spec in (rule.weight, rule.activation)]
    return all(spec is None or spec.is_float for spec in specs)


def _matches(pattern: str, block: Block, blocks: Sequence[Block]) -> bool:
    weighted = [b for b in blocks if b.has_weights]
    if pattern == "@input":
        return block.is_input
    if pattern in ("@first", "@last"):
        return bool(weighted) and block is weighted[0 if pattern == "@first" else -1]
    if block.is_input:
        return False  # "*" means the layers; the input has a selector of its own
    if pattern.startswith("type:"):
        return any(fnmatch.fnmatchcase(t, pattern[len("type:") :]) for t in block.types)
    return any(fnmatch.fnmatchcase(n, pattern) for n in block.names)


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


def scheme_from_bits(text: str) -> Scheme:
    """Makes the usual scheme for bits such as "4" or "w4a8".

    First and last layer keep 8-bit weights, and a global average, which feeds the last
    layer, is held in 8 bits: together they are under 3 % of a ResNet-20's operations. Up to 3
    bits, so are the sums of residual nets, and rounded to their bits where a layer with
    weights reads them: a sum goes through all blocks, and would be rounded again in each.

    Raises:
        SchemeError: see parse_bits; "w4" or "a4" alone is also refused.
    """
    weight, activation = parse_bits(text)
    if weight is None or activation is None:
        raise SchemeError(f"bits {text!r} name only one of weights and activations: write w4a8")
    wide_sums = activation.bits <= MAX_BITS_WITH_WIDE_SUMS
    rules = [
        Rule(
            match="*",
            weight=weight,
            activation=activation,
            input=activation if wide_sums else None,
        )
    ]
    ends = None if weight.is_float else QuantSpec(bits=8)
    if ends or wide_sums:
        rules.append(Rule(match="@first", weight=ends))
        rules.append(Rule(match="@last", weight=ends, input=ACTIVATION_8 if wide_sums else None))
    if wide_sums:
        rules.append(Rule(match="type:Add", activation=ACTIVATION_8, optional=True))
    if not activation.is_float:
        average = Rule(match="type:GlobalAveragePooling*", activation=ACTIVATION_8, optional=True)
        rules.append(average)
    return Scheme(name=_bits_name(weight, activation), rules=tuple(rules))


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


def preset_names() -> list[str]:
    """Names of the schemes that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_scheme(name_or_path: str) -> Scheme:
    """Loads a preset by name, or a scheme file.

    Raises:
        SchemeError: no such preset or file, or the file is not a valid scheme; all problems
            of a file are told at once.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{name_or_path}.yaml"
        if not path.is_file():
            known = preset_names()
            raise SchemeError(
                f"scheme {name_or_path!r} is not known{close_names(name_or_path, known)}. "
                f"Presets: {', '.join(known)}; or give a file that ends in .yaml"
            )
    return parse_scheme(_read(path), where=str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SchemeError(f"scheme file {path} cannot be read: {error}") from error


def parse_scheme(text: str, *, where: str) -> Scheme:
    """Parses a scheme from YAML text; `where` names it in errors.

    Raises:
        SchemeError: all problems found, each with the place of it.
    """
    import yaml

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SchemeError(f"{where} is not YAML: {error}") from error
    return scheme_from_dict(data, where=where)


def scheme_from_dict(data: Any, *, where: str) -> Scheme:
    """Builds a scheme from plain data (a YAML file's, or a run.json's).

    Raises:
        SchemeError: all problems found, each with the place of it.
    """
    if not isinstance(data, Mapping):
        raise SchemeError(f"{where}: a mapping with 'name' and 'rules' is expected")
    problems = _unknown_keys(data, ("format", "name", "description", "rules"), "scheme")
    if data.get("format", FORMAT) != FORMAT:
        problems.append(f"format is {data['format']!r}; this kq reads {FORMAT}: upgrade kq")
    rules = data.get("rules")
    if not isinstance(rules, list) or not rules:
        problems.append("rules: a list of at least one rule is expected")
        rules = []
    parsed = [_parse_rule(rule, f"rules[{i}]", problems) for i, rule in enumerate(rules)]
    if problems:
        raise SchemeError(f"{where}: " + "; ".join(problems))
    return Scheme(
        name=str(data.get("name") or Path(where).stem),
        description=str(data.get("description", "")),
        rules=tuple(parsed),
    )


def _parse_rule(data: Any, where: str, problems: list[str]) -> Rule:
    if not isinstance(data, Mapping) or not isinstance(data.get("match"), str):
        problems.append(f"{where}: a mapping with 'match' (a name pattern) is expected")
        return Rule(match="*")
    problems += _unknown_keys(data, ("match", "weight", "activation", "input", "optional"), where)
    match = data["match"]
    if match.startswith("@") and match not in SELECTORS:
        problems.append(f"{where}.match is {match!r}; selectors are {', '.join(SELECTORS)}")
    optional = data.get("optional", False)
    if not isinstance(optional, bool):
        problems.append(f"{where}.optional is {optional!r}; true or false is expected")
    return Rule(
        match=match,
        weight=_parse_spec(data.get("weight"), f"{where}.weight", problems),
        activation=_parse_spec(data.get("activation"), f"{where}.activation", problems),
        input=_parse_spec(data.get("input"), f"{where}.input", problems),
        optional=bool(optional),
    )


def _parse_spec(data: Any, where: str, problems: list[str]) -> QuantSpec | None:
    weight = where.endswith("weight")
    if data is None:
        return None
    if isinstance(data, str) and data in _WORDS and (weight or data == "float"):
        return _WORDS[data]
    words = ", ".join(_WORDS if weight else ["float"])
    if not isinstance(data, Mapping):
        problems.append(f"{where} is {data!r}; a mapping as {{bits: 4}} or {words} is expected")
        return None
    keys = ("bits", "narrow_range", "per_channel") if weight else ("bits",)
    problems += _unknown_keys(data, keys, where)
    bits = data.get("bits")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
        problems.append(f"{where}: bits is {bits!r}; 1 to 8 are allowed (or {words})")
        return None
    narrow_range = data.get("narrow_range", weight and bits != 2)
    per_channel = data.get("per_channel", True)
    for key, value in (("narrow_range", narrow_range), ("per_channel", per_channel)):
        if not isinstance(value, bool):
            problems.append(f"{where}.{key} is {value!r}; true or false is expected")
            return None
    if weight and bits in (1, 8) and not narrow_range:
        # Binary has no lowest code to leave out; int8 kernels take weights in -127..127.
        problems.append(f"{where}: {bits}-bit weights are always narrow_range: true")
    return QuantSpec(bits=bits, narrow_range=narrow_range, per_channel=per_channel)


def _unknown_keys(data: Mapping[str, Any], known: Sequence[str], where: str) -> list[str]:
    return [
        f"{where}: key {key!r} is not known{close_names(str(key), known)}; "
        f"keys are {', '.join(known)}"
        for key in data
        if key not in known
    ]


def scheme_to_dict(scheme: Scheme) -> dict[str, Any]:
    """Plain data of a scheme, as scheme_from_dict reads it."""
    rules = []
    for rule in scheme.rules:
        data: dict[str, Any] = {"match": rule.match}
        if rule.weight:
            data["weight"] = _spec_to_data(rule.weight, weight=True)
        if rule.activation:
            data["activation"] = _spec_to_data(rule.activation, weight=False)
        if rule.input:
            data["input"] = _spec_to_data(rule.input, weight=False)
        if rule.optional:
            data["optional"] = True
        rules.append(data)
    described = {"description": scheme.description} if scheme.description else {}
    return {"format": FORMAT, "name": scheme.name, **described, "rules": rules}


def _spec_to_data(spec: QuantSpec, *, weight: bool) -> Any:
    if spec.is_float:
        return "float"
    data: dict[str, Any] = {"bits": spec.bits}
    if weight and (spec.bits == 2 or not spec.narrow_range):
        data["narrow_range"] = spec.narrow_range
    if weight and not spec.per_channel:
        data["per_channel"] = False
    return data


def scheme_to_yaml(scheme: Scheme) -> str:
    """A scheme as the text of a scheme file."""
    import yaml

    return yaml.safe_dump(scheme_to_dict(scheme), sort_keys=False)

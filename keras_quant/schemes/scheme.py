"""The scheme: which layer gets how many bits, said once for every method and command.

A scheme is a list of rules in order; for each layer the last rule that matches wins, key by
key. What it keeps in float is so whatever the rules say.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from keras_quant.errors import SchemeError, close_names

FLOAT_BITS = 32
SELECTORS = ("@first", "@last", "@input")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """Which numbers a tensor may hold.

    Attributes:
        bits: 1 to 8, or 32 for float. One-bit weights are -1 and +1.
        narrow_range: weights leave out the lowest code, so that codes are symmetric: 15 levels
            at 4 bits, and -1, 0, +1 (ternary) at 2. Without it 2 bits mean -2, -1, 0, +1.
            Always False for activations: a ReLU's use 0 .. 2**bits - 1.
        per_channel: weights have one scale an output channel, else one a tensor.
        power_of_two: scales of activations are powers of two, else any real numbers.
        symmetric: real 0 is code 0 of activations; else codes are 0 .. 2**bits - 1, and a
            zero point says which one is real 0, so that none are lost on ranges that reach
            further to one side. What a ReLU gives has code 0 for 0 either way.
    """

    bits: int
    narrow_range: bool = True
    per_channel: bool = True
    power_of_two: bool = True
    symmetric: bool = True

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


OptionValue = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """How scales are found: a method by its name, and its options by theirs, in order."""

    name: str
    options: tuple[tuple[str, OptionValue], ...] = ()

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}({options})" if options else self.name


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
        method: that quantizes the layer, in place of the run's.
        calibrator: that chooses the scale of the layer's output, in place of the run's.
        optional: the rule may match nothing (presets use it); else that is an error.
    """

    match: str
    weight: QuantSpec | None = None
    activation: QuantSpec | None = None
    input: QuantSpec | None = None
    method: MethodSpec | None = None
    calibrator: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """Rules in order, with a name to call them by.

    Attributes:
        keep_float: what stays in float, with quantizers in front and behind: as Rule.match.
    """

    name: str
    rules: tuple[Rule, ...]
    description: str = ""
    keep_float: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Layers that are quantized as one: a convolution with its batch norm and ReLU, say.

    Attributes:
        names: Keras layer names; the first one names the block.
        types: names of the Keras classes that they compute.
        has_weights: whether there is a kernel to quantize.
        is_input: whether this is the model's input.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    has_weights: bool = False
    is_input: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBits:
    """What a scheme says for one block.

    Attributes:
        weight: of the kernel.
        activation: of what the block puts out.
        input: of what it reads, at most.
        in_float: it computes in float32, whatever it reads.
        method: of the kernel and of what the block puts out; None means the run's.
        calibrator: of what the block puts out; None means the run's.
    """

    weight: QuantSpec
    activation: QuantSpec
    input: QuantSpec = FLOAT
    in_float: bool = False
    method: MethodSpec | None = None
    calibrator: str | None = None


def resolve(scheme: Scheme, blocks: Sequence[Block]) -> dict[str, BlockBits]:
    """Applies a scheme's rules to a model's blocks.

    Returns: for each block's first name its bits; float where no rule speaks. The input is
    8 bits wide unless a rule says otherwise.

    Raises:
        SchemeError: rules, or layers to keep in float, that match no block, with close names; or
            rules for kernels that match none, or for rounding again what nothing rounds.
    """
    found = {b.names[0]: BlockBits(weight=FLOAT, activation=FLOAT) for b in blocks}
    if not is_float(scheme):
        found |= {
            b.names[0]: BlockBits(weight=FLOAT, activation=ACTIVATION_8)
            for b in blocks
            if b.is_input
        }
    problems = []
    narrowed = [i for i, rule in enumerate(scheme.rules) if rule.input and not rule.input.is_float]
    rounding = [rule.activation for rule in scheme.rules if rule.match != "@input"]
    if narrowed and all(spec is None or spec.is_float for spec in rounding):
        problems.append(
            f"rules[{narrowed[0]}].input rounds again what was rounded to more bits, and no rule "
            "gives activation of layers any: give these bits too"
        )
    for index, rule in enumerate(scheme.rules):
        matched = [b for b in blocks if _matches(rule.match, b, blocks)]
        if not matched and not rule.optional:
            problems.append(f"rules[{index}]: {_no_match(rule.match, blocks)}")
        no_kernel = matched and not any(block.has_weights for block in matched)
        if no_kernel and _only_kernels(rule) and not rule.optional:
            names = ", ".join(b.names[0] for b in matched)
            problems.append(
                f"rules[{index}]: {rule.match!r} matches {names}, without a kernel, and the rule "
                "says nothing but weight and input; give activation, or match another layer"
            )
        for block in matched:
            old = found[block.names[0]]
            found[block.names[0]] = BlockBits(
                weight=rule.weight if rule.weight and block.has_weights else old.weight,
                activation=rule.activation or old.activation,
                input=rule.input or old.input,
                method=rule.method or old.method,
                calibrator=rule.calibrator or old.calibrator,
            )
    for index, pattern in enumerate(scheme.keep_float):
        matched = [b for b in blocks if _matches(pattern, b, blocks)]
        if not matched:
            problems.append(f"float[{index}]: {_no_match(pattern, blocks)}")
        for name in (block.names[0] for block in matched):
            found[name] = dataclasses.replace(found[name], weight=FLOAT, input=FLOAT, in_float=True)
    if problems:
        raise SchemeError(f"scheme {scheme.name!r}: " + "; ".join(problems))
    return found


def _only_kernels(rule: Rule) -> bool:
    """Whether a rule says something to layers with a kernel alone."""
    others = (rule.activation, rule.method, rule.calibrator)
    return (rule.weight or rule.input) is not None and others == (None, None, None)


def _no_match(pattern: str, blocks: Sequence[Block]) -> str:
    names = [n for b in blocks for n in (*b.names, *(f"type:{t}" for t in b.types))]
    close = close_names(pattern, [*names, *SELECTORS])
    layers = f"; layers are {', '.join(dict.fromkeys(b.names[0] for b in blocks))}"
    return f"{pattern!r} matches none of {len(blocks)} layers{close or layers}"


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

from __future__ import annotations

import pytest

from keras_quant.errors import SchemeError
from keras_quant.schemes.bits import parse_bits, scheme_from_bits, with_overrides
from keras_quant.schemes.scheme import (
    ACTIVATION_8,
    BINARY,
    FLOAT,
    TERNARY,
    Block,
    BlockBits,
    MethodSpec,
    QuantSpec,
    Rule,
    Scheme,
    is_float,
    resolve,
)

W4, W8 = QuantSpec(bits=4), QuantSpec(bits=8)
A4 = QuantSpec(bits=4, narrow_range=False)
BLOCKS = (
    Block(names=("image",), types=("InputLayer",), is_input=True),
    Block(names=("conv1", "bn1", "relu1"), types=("Conv2D", "BatchNormalization", "ReLU"),
          has_weights=True),
    Block(names=("conv2",), types=("Conv2D",), has_weights=True),
    Block(names=("pool",), types=("GlobalAveragePooling2D",)),
    Block(names=("logits",), types=("Dense",), has_weights=True),
)  # fmt: skip


def scheme_of(*rules: Rule) -> Scheme:
    return Scheme(name="test", rules=rules)


# Reading bits


@pytest.mark.parametrize(
    ("text", "weight", "activation"),
    [
        ("4", W4, A4),
        ("w4a8", W4, ACTIVATION_8),
        (" W4A8 ", W4, ACTIVATION_8),
        ("w1a4", BINARY, A4),
        ("wta4", TERNARY, A4),
        ("w2", QuantSpec(bits=2, narrow_range=False), None),
        ("a8", None, ACTIVATION_8),
        ("w4af", W4, FLOAT),
        ("wfa8", FLOAT, ACTIVATION_8),
        ("float", FLOAT, FLOAT),
    ],
)
def test_bits_read_as(text: str, weight: QuantSpec | None, activation: QuantSpec | None) -> None:
    assert parse_bits(text) == (weight, activation)


@pytest.mark.parametrize("text", ["", "0", "9", "16", "w9a4", "w4a0", "at", "a4w4", "4.0", "four"])
def test_bits_outside_the_grammar_are_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(SchemeError, match=r"bits are 1 to 8, written 4, w4a8, w1a4"):
        parse_bits(text)


@pytest.mark.parametrize("text", ["w4", "a4"])
def test_half_of_the_bits_make_no_scheme(text: str) -> None:
    with pytest.raises(SchemeError, match="only one of weights and activations: write w4a8"):
        scheme_from_bits(text)


@pytest.mark.parametrize(
    ("spec", "words"),
    [(W4, "4"), (FLOAT, "float"), (TERNARY, "ternary"), (BINARY, "1"),
     (QuantSpec(bits=2, narrow_range=False), "2")],
)  # fmt: skip
def test_bits_are_said_in_a_word(spec: QuantSpec, words: str) -> None:
    assert str(spec) == words


def test_a_method_is_said_with_its_options() -> None:
    assert str(MethodSpec(name="lsq")) == "lsq"
    assert str(MethodSpec(name="lsq", options=(("rate", 0.1), ("fit", "x")))) == (
        "lsq(rate=0.1, fit=x)"
    )


def test_a_scheme_that_quantizes_anything_is_no_float_scheme() -> None:
    parts = (Rule(match="*", weight=FLOAT), Rule(match="a", activation=FLOAT))
    assert is_float(scheme_of(*parts))
    for rule in (Rule(match="b", weight=W4), Rule(match="b", activation=A4)):
        assert not is_float(scheme_of(*parts, rule))


# Rules


def test_last_matching_rule_wins_key_by_key() -> None:
    scheme = scheme_of(
        Rule(match="*", weight=W4, activation=A4),
        Rule(match="conv*", weight=BINARY),
        Rule(match="type:Conv2D", activation=ACTIVATION_8),
        Rule(match="conv2", weight=FLOAT),
    )
    found = resolve(scheme, BLOCKS)
    assert found["conv1"] == BlockBits(weight=BINARY, activation=ACTIVATION_8)
    assert found["conv2"] == BlockBits(weight=FLOAT, activation=ACTIVATION_8)
    assert found["logits"] == BlockBits(weight=W4, activation=A4)


def test_a_later_rule_forgets_nothing_that_it_does_not_speak_of() -> None:
    lsq = MethodSpec(name="lsq")
    full = Rule(match="conv1", weight=W4, activation=A4, input=ACTIVATION_8, method=lsq)
    wanted = {"weight": W4, "activation": A4, "input": ACTIVATION_8, "method": lsq}
    for key, value in (
        ("weight", BINARY),
        ("activation", ACTIVATION_8),
        ("input", A4),
        ("method", MethodSpec(name="pact")),
    ):
        found = resolve(scheme_of(full, Rule(match="conv*", **{key: value})), BLOCKS)
        assert found["conv1"] == BlockBits(**{**wanted, key: value}), key


def test_a_block_is_found_by_any_of_its_layers() -> None:
    for match in ("relu1", "bn?", "type:BatchNormalization", "type:*Norm*"):
        found = resolve(scheme_of(Rule(match=match, activation=A4)), BLOCKS)
        assert [name for name, bits in found.items() if bits.activation == A4] == ["conv1"], match


@pytest.mark.parametrize(("selector", "name"), [("@first", "conv1"), ("@last", "logits")])
def test_first_and_last_are_layers_with_weights(selector: str, name: str) -> None:
    found = resolve(scheme_of(Rule(match=selector, weight=W8)), BLOCKS)
    assert [key for key, bits in found.items() if bits.weight == W8] == [name]


def test_input_has_eight_bits_unless_its_own_rule_says_otherwise() -> None:
    everything = Rule(match="*", weight=W4, activation=A4)
    assert resolve(scheme_of(everything), BLOCKS)["image"].activation == ACTIVATION_8
    own = Rule(match="@input", activation=FLOAT)
    assert resolve(scheme_of(own, everything), BLOCKS)["image"].activation == FLOAT


def test_layers_without_weights_take_no_weight_bits() -> None:
    assert resolve(scheme_of(Rule(match="*", weight=W4)), BLOCKS)["pool"].weight == FLOAT


def test_float_scheme_leaves_all_in_float() -> None:
    found = resolve(scheme_from_bits("float"), BLOCKS)
    assert set(found.values()) == {BlockBits(weight=FLOAT, activation=FLOAT)}


def test_all_rules_that_match_nothing_are_told_with_close_names() -> None:
    scheme = scheme_of(
        Rule(match="cnov1", weight=W4),
        Rule(match="conv1", weight=W4),
        Rule(match="type:Dens", weight=W4),
        Rule(match="type:Add", weight=W4, optional=True),
    )
    with pytest.raises(SchemeError) as caught:
        resolve(scheme, BLOCKS)
    text = str(caught.value)
    assert "rules[0]: 'cnov1' matches none of 5 layers; close names: conv1" in text
    assert "rules[2]: 'type:Dens' matches none of 5 layers; close names: type:Dense" in text
    assert "rules[1]" not in text and "rules[3]" not in text


def test_rules_for_kernels_that_match_none_are_told() -> None:
    everything = Rule(match="*", weight=W4, activation=A4)
    scheme = scheme_of(
        everything,
        Rule(match="@input", weight=W8),
        Rule(match="po*", input=A4, weight=W8),
        Rule(match="pool", weight=W8, activation=ACTIVATION_8),
        Rule(match="pool", weight=W8, optional=True),
    )
    with pytest.raises(SchemeError) as caught:
        resolve(scheme, BLOCKS)
    text = str(caught.value)
    assert "rules[1]: '@input' matches image, without a kernel, and the rule says nothing" in text
    assert "rules[2]: 'po*' matches pool, without a kernel" in text
    assert "rules[3]" not in text and "rules[4]" not in text


def test_bits_of_an_input_that_nothing_rounds_are_told() -> None:
    narrow = Rule(match="conv2", input=A4)
    with pytest.raises(SchemeError, match=r"rules\[0\]\.input rounds again what was rounded"):
        resolve(scheme_of(narrow), BLOCKS)
    pixels = Rule(match="@input", activation=ACTIVATION_8)
    with pytest.raises(SchemeError, match=r"rules\[2\]\.input .* no rule gives activation of lay"):
        resolve(scheme_of(Rule(match="*", weight=W4), pixels, narrow), BLOCKS)
    rounded = Rule(match="conv1", activation=ACTIVATION_8)
    assert resolve(scheme_of(narrow, rounded), BLOCKS)["conv2"].input == A4


def test_layers_kept_in_float_are_so_whatever_the_rules_say() -> None:
    rules = (Rule(match="*", weight=W4, activation=A4), Rule(match="conv1", weight=W8, input=A4))
    scheme = Scheme(name="test", rules=rules, keep_float=("bn1", "type:Global*"))
    found = resolve(scheme, BLOCKS)
    kept = BlockBits(weight=FLOAT, activation=A4, in_float=True)
    assert (found["conv1"], found["pool"]) == (kept, kept)
    assert found["conv2"] == BlockBits(weight=W4, activation=A4)


def test_layers_to_keep_in_float_that_are_not_there_are_told_with_close_names() -> None:
    scheme = Scheme(name="test", rules=(Rule(match="none"),), keep_float=("conv2", "cnov1"))
    with pytest.raises(
        SchemeError, match=r"rules\[0\]: 'none'.*float\[1\]: 'cnov1' .*names: conv1"
    ):
        resolve(scheme, BLOCKS)


def test_override_wins_over_the_scheme() -> None:
    scheme = with_overrides(scheme_from_bits("4"), ["conv1=w2a8", "type:Dense=float", "@input=a4"])
    assert scheme.name == "w4a4+set"
    found = resolve(scheme, BLOCKS)
    assert found["conv1"] == BlockBits(
        weight=QuantSpec(bits=2, narrow_range=False), activation=ACTIVATION_8
    )
    assert found["logits"] == BlockBits(weight=FLOAT, activation=FLOAT)
    assert found["image"].activation == A4
    assert found["conv2"] == BlockBits(weight=W4, activation=A4)


def test_no_overrides_leave_the_scheme_as_it_is() -> None:
    scheme = scheme_from_bits("4")
    assert with_overrides(scheme, []) is scheme


@pytest.mark.parametrize("text", ["conv1", "=w4a4", " =w4"])
def test_override_without_a_pattern_or_bits_is_refused(text: str) -> None:
    with pytest.raises(SchemeError, match="write PATTERN=BITS, as in 'conv1=w8a8'"):
        with_overrides(scheme_from_bits("4"), [text])


@pytest.mark.parametrize(
    ("bits", "sums", "of_sums", "reads", "name"),
    [
        ("3", None, 8, 3, "w3a3"),
        ("4", None, 4, FLOAT.bits, "w4a4"),
        ("4", "8", 8, 4, "w4a4-8-sums"),
        ("4", "same", 4, FLOAT.bits, "w4a4"),
        ("w4a2", "same", 2, FLOAT.bits, "w4a2-same-sums"),
        ("2", "8", 8, 2, "w2a2"),
        ("8", "8", 8, FLOAT.bits, "w8a8"),
    ],
)
def test_sums_are_wide_up_to_three_bits_or_where_it_is_asked_for(
    bits: str, sums: str | None, of_sums: int, reads: int, name: str
) -> None:
    blocks = [
        Block(names=("conv0",), types=("Conv2D",), has_weights=True),
        Block(names=("conv1",), types=("Conv2D",), has_weights=True),
        Block(names=("add",), types=("Add",)),
        Block(names=("logits",), types=("Dense",), has_weights=True),
    ]
    scheme = scheme_from_bits(bits, sums=sums)
    found = resolve(scheme, blocks)
    assert scheme.name == name
    assert found["add"].activation.bits == of_sums
    assert found["conv1"].input.bits == reads
    assert found["logits"].input == (FLOAT if reads == FLOAT.bits else ACTIVATION_8)


def test_sums_of_floats_have_no_bits() -> None:
    with pytest.raises(SchemeError, match="bits 'w4af' leave activations in float, and sums too"):
        scheme_from_bits("w4af", sums="8")

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import SchemeError
from keras_quant.scheme import (
    ACTIVATION_8,
    BINARY,
    FLOAT,
    TERNARY,
    Block,
    BlockBits,
    QuantSpec,
    Rule,
    Scheme,
    is_float,
    load_scheme,
    parse_bits,
    parse_scheme,
    preset_names,
    resolve,
    scheme_from_bits,
    scheme_from_dict,
    scheme_to_dict,
    scheme_to_yaml,
    with_overrides,
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


# Presets


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_the_scheme_of_its_name(name: str) -> None:
    preset = load_scheme(name)
    assert preset.description
    usual = scheme_from_bits(name)
    if name == "float":
        assert is_float(preset) and is_float(usual)
    else:
        assert dataclasses.replace(preset, description="") == usual


def test_unknown_preset_is_told_with_close_names() -> None:
    with pytest.raises(SchemeError, match=r"'w4a5' is not known; close names: .*w4a4.*Presets: "):
        load_scheme("w4a5")


def test_missing_file_is_told(tmp_path) -> None:
    with pytest.raises(SchemeError, match=r"none\.yaml cannot be read"):
        load_scheme(str(tmp_path / "none.yaml"))


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


# Files


def test_all_problems_of_a_file_are_told_with_their_places() -> None:
    text = """
    name: bad
    rulez: []
    format: 2
    rules:
    - {match: "*", weight: {bits: 9}, activation: binary}
    - {weight: {bits: 4}}
    - {match: "@frist", weight: {bits: 8, narrow_range: false}, optional: 1}
    - {match: a, activation: {bits: 4, narrow_range: true}, wieght: {bits: 4}}
    - {match: b, weight: {bits: 4, per_channel: "yes"}}
    - {match: c, weight: {bits: true}}
    """
    with pytest.raises(SchemeError) as caught:
        parse_scheme(text, where="bad.yaml")
    for expected in (
        "bad.yaml: ",
        "scheme: key 'rulez' is not known; close names: rules",
        "format is 2; this kq reads 1: upgrade kq",
        "rules[0].weight: bits is 9; 1 to 8 are allowed (or float, binary, ternary)",
        "rules[0].activation is 'binary'; a mapping as {bits: 4} or float is expected",
        "rules[1]: a mapping with 'match'",
        "rules[2].match is '@frist'; selectors are @first, @last, @input",
        "rules[2].weight: 8-bit weights are always narrow_range: true",
        "rules[2].optional is 1; true or false is expected",
        "rules[3].activation: key 'narrow_range' is not known",
        "rules[3]: key 'wieght' is not known; close names: weight",
        "rules[4].weight.per_channel is 'yes'; true or false is expected",
        "rules[5].weight: bits is True",
    ):
        assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "a mapping with 'name' and 'rules' is expected"),
        ("name: x", "rules: a list of at least one rule is expected"),
    ],
)
def test_files_of_another_kind_are_refused(text: str, problem: str) -> None:
    with pytest.raises(SchemeError, match=problem):
        parse_scheme(text, where="x.yaml")


def test_words_stand_for_their_specs() -> None:
    text = "rules: [{match: a, weight: binary}, {match: b, weight: ternary, activation: float}]"
    scheme = parse_scheme(text, where="folder/words.yaml")
    assert scheme.name == "words"
    assert [rule.weight for rule in scheme.rules] == [BINARY, TERNARY]
    assert scheme.rules[1].activation == FLOAT


weights = st.one_of(
    st.just(FLOAT),
    st.builds(QuantSpec, bits=st.sampled_from([1, 8]), per_channel=st.booleans()),
    st.builds(
        QuantSpec, bits=st.integers(2, 7), narrow_range=st.booleans(), per_channel=st.booleans()
    ),
)
activations = st.one_of(
    st.just(FLOAT), st.builds(QuantSpec, bits=st.integers(1, 8), narrow_range=st.just(False))
)
rules = st.builds(
    Rule,
    match=st.text(min_size=1).filter(lambda text: not text.startswith("@"))
    | st.sampled_from(["@first", "@last", "@input"]),
    weight=st.none() | weights,
    activation=st.none() | activations,
    input=st.none() | activations,
    optional=st.booleans(),
)
schemes = st.builds(
    Scheme,
    name=st.text(min_size=1),
    description=st.text(),
    rules=st.lists(rules, min_size=1, max_size=4).map(tuple),
)


@given(schemes)
def test_scheme_survives_a_file(scheme: Scheme) -> None:
    assert parse_scheme(scheme_to_yaml(scheme), where="x.yaml") == scheme


@given(schemes)
def test_scheme_survives_plain_data(scheme: Scheme) -> None:
    assert scheme_from_dict(scheme_to_dict(scheme), where="run.json") == scheme


def test_sums_are_wide_up_to_three_bits() -> None:
    blocks = [
        Block(names=("conv0",), types=("Conv2D",), has_weights=True),
        Block(names=("conv1",), types=("Conv2D",), has_weights=True),
        Block(names=("add",), types=("Add",)),
        Block(names=("logits",), types=("Dense",), has_weights=True),
    ]
    for bits, sums, reads in (("3", 8, 3), ("4", 4, FLOAT.bits)):
        found = resolve(scheme_from_bits(bits), blocks)
        assert found["add"].activation.bits == sums
        assert found["conv1"].input.bits == reads
    assert resolve(scheme_from_bits("3"), blocks)["logits"].input == ACTIVATION_8

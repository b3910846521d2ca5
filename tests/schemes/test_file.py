"""Schemes as files."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_quant.errors import SchemeError
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.file import (
    load_scheme,
    parse_scheme,
    preset_names,
    scheme_from_dict,
    scheme_to_dict,
    scheme_to_yaml,
)
from keras_quant.schemes.scheme import (
    BINARY,
    FLOAT,
    TERNARY,
    MethodSpec,
    QuantSpec,
    Rule,
    Scheme,
    is_float,
)

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


# Files


def test_all_problems_of_a_file_are_told_with_their_places() -> None:
    text = """
    name: bad
    rulez: []
    float: conv1
    format: 2
    rules:
    - {match: "*", weight: {bits: 9}, activation: binary}
    - {weight: {bits: 4}}
    - {match: "@frist", weight: {bits: 8, narrow_range: false}, optional: 1}
    - {match: a, activation: {bits: 4, narrow_range: true}, wieght: {bits: 4}}
    - {match: b, weight: {bits: 4, per_channel: "yes"}}
    - {match: c, weight: {bits: true}}
    - {match: d, activation: {bits: 4, symmetric: 0, power_of_two: 1, zero: true}}
    """
    with pytest.raises(SchemeError) as caught:
        parse_scheme(text, where="bad.yaml")
    for expected in (
        "bad.yaml: ",
        "scheme: key 'rulez' is not known; close names: rules",
        "format is 2; this kq reads 1: upgrade kq",
        "float is 'conv1'; a list of layer names or patterns is expected",
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
        "rules[6].activation: key 'zero' is not known; keys are bits, power_of_two, symmetric",
        "rules[6].activation.symmetric is 0; true or false is expected",
        "rules[6].activation.power_of_two is 1; true or false is expected",
    ):
        assert expected in str(caught.value)


# Each line twice what the line before has.
DOUBLED = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is not YAML"),
        ("a: 2026-99-99", "is not YAML: month must be in 1..12"),
        ("a: {[1]: 2}", "is not YAML"),
        ("a: 0b_", "is not YAML: invalid literal"),
        (f"a: {'[' * 5_000}", "is not YAML"),
        (f"a: {'{b: ' * 5_000}", "is not YAML"),
        (DOUBLED, "x.yaml: more than 10,000 entries; are aliases repeated"),
        ("a: &a [*a, *a]", "x.yaml: nested more than 100 deep; does an alias stand for what holds"),
        (f"a: {'[' * 100}{']' * 100}", "x.yaml: nested more than 100 deep"),
        (f"a: {'[' * 98}{']' * 98}", "rules: a list of at least one rule"),
        ("- 1", "a mapping with 'name' and 'rules' is expected"),
        ("name: x", "rules: a list of at least one rule is expected"),
        ("rules: [{match: a}]\nfloat: ['@input', b]", "float: @input select no layers"),
    ],
)
def test_files_of_another_kind_are_refused(text: str, problem: str) -> None:
    with pytest.raises(SchemeError, match=problem):
        parse_scheme(text, where="x.yaml")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("rules: [{match: a, weight: {bits: 2}, weight: {bits: 4}}]", "weight"),
        ("rules: [{match: a, weight: {bits: 2, bits: 4}}]", "bits"),
        ("rules: [{match: a, weight: binary}]\nrules: [{match: b, weight: binary}]", "rules"),
    ],
)
def test_a_name_that_stands_twice_is_told_since_one_would_be_left_out(text: str, name: str) -> None:
    with pytest.raises(SchemeError, match=f"x.yaml is not YAML: '{name}' stands there 2 times"):
        parse_scheme(text, where="x.yaml")


def test_what_is_merged_may_be_said_otherwise() -> None:
    text = "rules: [&a {match: a, weight: {bits: 2}}, {<<: *a, match: b}, {<<: *a, match: c}]"
    assert [rule.match for rule in parse_scheme(text, where="x.yaml").rules] == ["a", "b", "c"]


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
    st.just(FLOAT),
    st.builds(
        QuantSpec,
        bits=st.integers(1, 8),
        narrow_range=st.just(False),
        power_of_two=st.booleans(),
        symmetric=st.booleans(),
    ),
)
rules = st.builds(
    Rule,
    match=st.text(min_size=1).filter(lambda text: not text.startswith("@"))
    | st.sampled_from(["@first", "@last", "@input"]),
    weight=st.none() | weights,
    activation=st.none() | activations,
    input=st.none() | activations,
    calibrator=st.none() | st.sampled_from(["entropy", "percentile:99.9"]),
    optional=st.booleans(),
)
schemes = st.builds(
    Scheme,
    name=st.text(min_size=1),
    description=st.text(),
    rules=st.lists(rules, min_size=1, max_size=4).map(tuple),
    keep_float=st.lists(st.sampled_from(["conv*", "type:Add", "@last"])).map(tuple),
)


@pytest.mark.slow
@given(schemes)
def test_scheme_survives_a_file(scheme: Scheme) -> None:
    assert parse_scheme(scheme_to_yaml(scheme), where="x.yaml") == scheme


@given(schemes)
def test_scheme_survives_plain_data(scheme: Scheme) -> None:
    assert scheme_from_dict(scheme_to_dict(scheme), where="run.json") == scheme


@pytest.mark.parametrize(
    "method",
    [
        MethodSpec(name="lsq"),
        MethodSpec(name="lsq", options=(("rate", 0.5), ("fit", "search"), ("learn", True))),
    ],
)
def test_a_method_and_its_options_come_back_from_a_file(method: MethodSpec) -> None:
    scheme = Scheme(name="m", rules=(Rule(match="*", method=method),))
    assert parse_scheme(scheme_to_yaml(scheme), where="m.yaml") == scheme


def test_a_method_without_options_is_a_word() -> None:
    scheme = Scheme(name="m", rules=(Rule(match="*", method=MethodSpec(name="lsq")),))
    assert scheme_to_dict(scheme)["rules"] == [{"match": "*", "method": "lsq"}]


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (4, r"rules\[0\]\.method is 4; a name, or"),
        ({"rate": 0.5}, r"rules\[0\]\.method is \{'rate': 0.5\}; a name, or"),
        ({"name": 3}, r"rules\[0\]\.method is \{'name': 3\}; a name, or"),
        ({"name": "lsq", "rate": [1]}, r"rules\[0\]\.method\.rate is \[1\]; a number, a word"),
    ],
)
def test_a_method_of_another_form_is_refused(method: object, told: str) -> None:
    with pytest.raises(SchemeError, match=told):
        scheme_from_dict({"rules": [{"match": "*", "method": method}]}, where="s")


def test_a_calibrator_is_a_name() -> None:
    text = "{name: x, rules: [{match: '*', calibrator: {percentile: 9}}]}"
    with pytest.raises(SchemeError, match=r"rules\[0\].calibrator is .*a name is expected"):
        parse_scheme(text, where="x.yaml")


@pytest.mark.parametrize("rules", [[], "*", {"match": "*"}, None])
def test_rules_are_a_list_of_one_at_least(rules: object) -> None:
    with pytest.raises(SchemeError, match="s: rules: a list of at least one rule is expected$"):
        scheme_from_dict({"rules": rules}, where="s")

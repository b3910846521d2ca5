"""What `--method` makes of bits that nobody said more of; knows no TensorFlow."""

from __future__ import annotations

from keras_quant.cli.train_options import choose_scheme
from keras_quant.schemes.scheme import Scheme


def chosen(method: str, *, bits: str | None = None, scheme: str | None = None) -> Scheme:
    return choose_scheme(bits=bits, scheme=scheme, overrides=["conv1=w4a8"], method=method)


def words(scheme: Scheme) -> set[tuple[bool, bool]]:
    specs = [rule.activation for rule in scheme.rules if rule.activation]
    return {(spec.power_of_two, spec.symmetric) for spec in specs}


def test_tfmot_has_8_bits_and_zero_points() -> None:
    scheme = chosen("tfmot")
    assert scheme.name.startswith("w8a8")
    assert words(scheme) == {(False, False)}


def test_a_scheme_by_name_is_taken_at_its_word() -> None:
    assert words(chosen("tfmot", scheme="w8a8")) == {(True, True)}


def test_other_methods_have_powers_of_two() -> None:
    assert chosen("qkeras").name.startswith("w4a4")
    assert words(chosen("qkeras")) == {(True, True)}

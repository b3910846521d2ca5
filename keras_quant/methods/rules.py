"""The methods that a scheme's rules name, with their options."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_quant.errors import SchemeError, UsageError, close_names, shown
from keras_quant.methods import load_method
from keras_quant.methods.method import Method
from keras_quant.schemes.scheme import MethodSpec, OptionValue, Scheme

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def check_methods(scheme: Scheme) -> None:
    """Compares the methods and options that a scheme's rules name with those that there are.

    Raises:
        SchemeError: all that do not fit, each with the place of its rule.
    """
    problems = [
        f"rules[{index}].method: {problem}"
        for index, rule in enumerate(scheme.rules)
        if rule.method
        for problem in _problems(rule.method)
    ]
    if problems:
        raise SchemeError(f"scheme {scheme.name!r}: {'; '.join(problems)}")


def options_of(
    method: Method,
    given: tuple[tuple[str, OptionValue], ...] = (),
    *,
    post_training: bool = False,
) -> Any:
    """Makes a method's options, of which those that are not given have their defaults.

    Args:
        given: names and values that `check_methods` let pass.
        post_training: the defaults are those for weights that are not trained further.
    """
    defaults = method.post_training if post_training else ()
    return method.maker.options(**dict((*defaults, *given)))


def _problems(spec: MethodSpec) -> list[str]:
    try:
        options = load_method(spec.name).maker.options
    except UsageError as error:
        return [str(error)]
    known = {field.name: type(field.default) for field in dataclasses.fields(options)}
    found = []
    for name, value in spec.options:
        if name not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            close = close_names(name, known)
            found.append(f"{spec.name} does not know the option {name!r}{close}; {has}")
        elif not _is_of(value, known[name]):
            found.append(f"{spec.name}: {name} is {shown(value)}; {KINDS[known[name]]} is expected")
    try:
        if not found:
            options(**dict(spec.options))
    except UsageError as error:  # a method may allow some values only
        found.append(f"{spec.name}: {error}")
    return found


def _is_of(value: OptionValue, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind

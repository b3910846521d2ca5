"""Schemes as files, and the presets that ship with the package.

format: 1
name: w4a4
rules:
  - match: "*"                  # a name pattern, type:Conv2D, @first, @last or @input
    weight: {bits: 4}
    activation: {bits: 4}       # power_of_two: false for any scale, symmetric: false for any zero
  - match: "@first"
    weight: {bits: 8}
    method: lsq                 # in place of the run's; {name: lsq, OPTION: VALUE} for options
    calibrator: entropy         # of what the layer puts out, in place of the run's
float: [attention_*]            # these layers stay in float, whatever the rules say
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_quant.errors import SchemeError, close_names, shown
from keras_quant.schemes.scheme import (
    BINARY,
    FLOAT,
    SELECTORS,
    TERNARY,
    MethodSpec,
    OptionValue,
    QuantSpec,
    Rule,
    Scheme,
)

FORMAT = 1
PRESETS = Path(__file__).with_name("presets")
FLOAT_SELECTORS = tuple(selector for selector in SELECTORS if selector != "@input")

_WEIGHT_FLAGS = ("narrow_range", "per_channel")
_ACTIVATION_FLAGS = ("power_of_two", "symmetric")
MOST_ENTRIES = 10_000
"""Values in a scheme file. A rule for each layer of a net of 1,000 layers takes 6,000; aliases of
aliases make any number of them from a few lines."""
MOST_DEEP = 100
"""Of lists and mappings in a scheme file; the bits of a rule lie 5 deep."""

_WORDS = {"float": FLOAT, "binary": BINARY, "ternary": TERNARY}


def preset_names() -> list[str]:
    """Names of the schemes that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_scheme(name_or_path: str) -> Scheme:
    """Loads a preset by name, or a scheme file.

    Raises:
        SchemeError: no such preset or file, or the file is not a valid scheme; all problems
            of a file are reported at once.
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

    from keras_quant.strict_yaml import read_yaml

    try:
        data = read_yaml(text)
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise SchemeError(f"{where} is not YAML: {error}") from error
    if excess := _excess(data):
        raise SchemeError(f"{where}: {excess}")
    return scheme_from_dict(data, where=where)


def _excess(data: Any) -> str:
    """What there is more of than any scheme has; "" where there is not.

    Values count as often as an alias repeats them: one may stand for the list that holds it.
    """
    found, waiting = 0, [(data, 1)]
    while waiting:
        value, depth = waiting.pop()
        found += 1
        if found > MOST_ENTRIES:
            return f"more than {MOST_ENTRIES:,} entries; are aliases repeated?"
        if depth > MOST_DEEP:
            return f"nested more than {MOST_DEEP} deep; does an alias stand for what holds it?"
        if isinstance(value, Mapping | list):
            inside = value.values() if isinstance(value, Mapping) else value
            waiting += [(item, depth + 1) for item in inside]
    return ""


def scheme_from_dict(data: Any, *, where: str) -> Scheme:
    """Builds a scheme from plain data (a YAML file's, or a run.json's).

    Raises:
        SchemeError: all problems found, each with the place of it.
    """
    if not isinstance(data, Mapping):
        raise SchemeError(f"{where}: a mapping with 'name' and 'rules' is expected")
    problems = _unknown_keys(data, ("format", "name", "description", "rules", "float"), "scheme")
    if data.get("format", FORMAT) != FORMAT:
        problems.append(f"format is {shown(data['format'])}; this kq reads {FORMAT}: upgrade kq")
    rules = data.get("rules")
    if not isinstance(rules, list) or not rules:
        problems.append("rules: a list of at least one rule is expected")
        rules = []
    parsed = [_parse_rule(rule, f"rules[{i}]", problems) for i, rule in enumerate(rules)]
    keep_float = _parse_float(data.get("float", []), problems)
    if problems:
        raise SchemeError(f"{where}: " + "; ".join(problems))
    return Scheme(
        name=str(data.get("name") or Path(where).stem),
        description=str(data.get("description", "")),
        rules=tuple(parsed),
        keep_float=keep_float,
    )


def _parse_float(data: Any, problems: list[str]) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        problems.append(f"float is {shown(data)}; a list of layer names or patterns is expected")
        return ()
    wrong = [item for item in data if item.startswith("@") and item not in FLOAT_SELECTORS]
    if wrong:
        known = ", ".join(FLOAT_SELECTORS)
        problems.append(f"float: {', '.join(wrong)} select no layers; selectors are {known}")
    return tuple(data)


def _parse_rule(data: Any, where: str, problems: list[str]) -> Rule:
    if not isinstance(data, Mapping) or not isinstance(data.get("match"), str):
        problems.append(f"{where}: a mapping with 'match' (a name pattern) is expected")
        return Rule(match="*")
    keys = ("match", "weight", "activation", "input", "method", "calibrator", "optional")
    problems += _unknown_keys(data, keys, where)
    match = data["match"]
    if match.startswith("@") and match not in SELECTORS:
        problems.append(f"{where}.match is {shown(match)}; selectors are {', '.join(SELECTORS)}")
    calibrator = data.get("calibrator")
    if calibrator is not None and not isinstance(calibrator, str):
        problems.append(f"{where}.calibrator is {shown(calibrator)}; a name is expected")
        calibrator = None
    optional = data.get("optional", False)
    if not isinstance(optional, bool):
        problems.append(f"{where}.optional is {shown(optional)}; true or false is expected")
    return Rule(
        match=match,
        weight=_parse_spec(data.get("weight"), f"{where}.weight", problems),
        activation=_parse_spec(data.get("activation"), f"{where}.activation", problems),
        input=_parse_spec(data.get("input"), f"{where}.input", problems),
        method=_parse_method(data.get("method"), f"{where}.method", problems),
        calibrator=calibrator,
        optional=bool(optional),
    )


def _parse_method(data: Any, where: str, problems: list[str]) -> MethodSpec | None:
    """Its name and options are compared with what there is by `methods.rules`."""
    if data is None or isinstance(data, str):
        return None if data is None else MethodSpec(name=data)
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        problems.append(
            f"{where} is {shown(data)}; a name, or {{name: lsq, OPTION: VALUE}} is expected"
        )
        return None
    options = {str(key): value for key, value in data.items() if key != "name"}
    wrong = [name for name, value in options.items() if not isinstance(value, OptionValue)]
    problems += [
        f"{where}.{name} is {shown(options[name])}; a number, a word, true or false is expected"
        for name in wrong
    ]
    return None if wrong else MethodSpec(name=data["name"], options=tuple(options.items()))


def _parse_spec(data: Any, where: str, problems: list[str]) -> QuantSpec | None:
    weight = where.endswith("weight")
    if data is None:
        return None
    if isinstance(data, str) and data in _WORDS and (weight or data == "float"):
        return _WORDS[data]
    words = ", ".join(_WORDS if weight else ["float"])
    if not isinstance(data, Mapping):
        problems.append(
            f"{where} is {shown(data)}; a mapping as {{bits: 4}} or {words} is expected"
        )
        return None
    flags = _WEIGHT_FLAGS if weight else _ACTIVATION_FLAGS
    problems += _unknown_keys(data, ("bits", *flags), where)
    bits = data.get("bits")
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 8:
        problems.append(f"{where}: bits is {shown(bits)}; 1 to 8 are allowed (or {words})")
        return None
    given = {"narrow_range": weight and bits != 2, **{f: data[f] for f in flags if f in data}}
    wrong = [
        f"{where}.{k} is {shown(v)}; true or false is expected"
        for k, v in given.items()
        if not isinstance(v, bool)
    ]
    if wrong:
        problems += wrong
        return None
    if weight and bits in (1, 8) and not given["narrow_range"]:
        # Binary has no lowest code to leave out; int8 kernels take weights in -127..127.
        problems.append(f"{where}: {bits}-bit weights are always narrow_range: true")
    return QuantSpec(bits=bits, **given)


def _unknown_keys(data: Mapping[str, Any], known: Sequence[str], where: str) -> list[str]:
    return [
        f"{where}: key {shown(key)} is not known{close_names(str(key), known)}; "
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
        if rule.method:
            options = dict(rule.method.options)
            data["method"] = {"name": rule.method.name, **options} if options else rule.method.name
        if rule.calibrator:
            data["calibrator"] = rule.calibrator
        if rule.optional:
            data["optional"] = True
        rules.append(data)
    described = {"description": scheme.description} if scheme.description else {}
    kept = {"float": list(scheme.keep_float)} if scheme.keep_float else {}
    return {"format": FORMAT, "name": scheme.name, **described, "rules": rules, **kept}


def _spec_to_data(spec: QuantSpec, *, weight: bool) -> Any:
    if spec.is_float:
        return "float"
    data: dict[str, Any] = {"bits": spec.bits}
    if weight and (spec.bits == 2 or not spec.narrow_range):
        data["narrow_range"] = spec.narrow_range
    others = ("per_channel",) if weight else _ACTIVATION_FLAGS
    return data | {flag: False for flag in others if not getattr(spec, flag)}


def scheme_to_yaml(scheme: Scheme) -> str:
    """A scheme as the text of a scheme file."""
    import yaml

    return yaml.safe_dump(scheme_to_dict(scheme), sort_keys=False)

"""Building a model of the zoo by name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_quant.errors import ModelError, UsageError, close_names
from keras_quant.zoo.catalog import MODELS, Option

if TYPE_CHECKING:
    from keras_quant.tf import keras


def build(
    name: str, input_shape: tuple[int, ...], num_classes: int, **options: float
) -> keras.Model:
    """Builds a model with fresh weights.

    Args:
        name: a key of MODELS.
        input_shape: (height, width, channels); mlp takes (features,) too.
        options: what MODELS[name].options lists.
    Returns: a functional model from float32 images to float32 logits (batch, num_classes).
    Raises:
        UsageError: see `check_known`.
        ModelError: the images are too small for the model, or it takes no vectors.
    """
    check_known(name, options)
    info = MODELS[name]
    if len(input_shape) != 3 and name != "mlp":
        raise ModelError(
            f"model {name} takes images, (height, width, channels); these are {input_shape}: give "
            "mlp, or FILE.py:FUNCTION for your own"
        )
    if len(input_shape) == 3 and min(input_shape[:2]) < info.min_size:
        raise ModelError(
            f"model {name} needs images of at least {info.min_size}x{info.min_size} pixels; "
            f"these are {input_shape[0]}x{input_shape[1]}"
        )
    module, function = info.builder.split(":")
    builder = getattr(importlib.import_module(module), function)
    return builder(input_shape, num_classes, **info.fixed, **options)


def check_known(name: str, options: Mapping[str, float]) -> None:
    """Checks a model's name and options, without building it.

    Raises:
        UsageError: there is no such model or option, or an option is out of range.
    """
    if name not in MODELS:
        raise UsageError(
            f"no model '{name}'{close_names(name, MODELS)}; give one of {', '.join(MODELS)}, "
            "or FILE.py:FUNCTION for your own"
        )
    if problems := _option_problems(MODELS[name].options, options):
        raise UsageError("\n".join(f"model {name}: {problem}" for problem in problems))


def _option_problems(known: Mapping[str, Option], given: Mapping[str, float]) -> list[str]:
    problems = []
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            problems.append(f"has no option {name}; it has {', '.join(known) or 'none'}")
        elif isinstance(option.default, int) and not isinstance(value, int):
            problems.append(f"{name} is {value}; an integer is allowed")
        elif not option.low <= value <= option.high:
            problems.append(f"{name} is {value}; {option.low} to {option.high} is allowed")
    return problems

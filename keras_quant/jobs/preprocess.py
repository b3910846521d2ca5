"""What becomes of pixels in front of a model: who says it, and signs that it is not so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from keras_quant.data import Dataset
from keras_quant.pixels import check_channels
from keras_quant.preprocessing import (
    PREPROCESSINGS,
    Preprocessing,
    describe,
    parse_preprocessing,
)

if TYPE_CHECKING:
    from keras_quant.tf import keras

Say = Callable[[str], None]
TRIED_IMAGES = 200
# By so many standard errors may an accuracy that is not that of guessing miss it.
STANDARD_ERRORS = 3.0
# Floats that fill less of the declared range than this are of another range.
SMALL_SHARE = 1 / 64


def declare(
    data: Dataset,
    *,
    asked: str | None,
    recorded: Preprocessing | None = None,
    model: keras.Model | None = None,
    say: Say = lambda text: None,
) -> Dataset:
    """Gives a dataset with the preprocessing that a model takes, and says what is not usual of it.

    The first that says something is believed: the user, a record (of the run, or in the file),
    the model's first layers. Else pixels become 0 to 1, and float images stay as they are.

    Args:
        asked: what stands behind --preprocess; None where nothing does.
        recorded: what the run or the file was made with.
        model: of one input; None where there is no Keras model.
        say: is told where it was found, of values that the model cannot mean, and what the
            dataset has to say of its files.
    Raises:
        UsageError: `asked` cannot be read.
        DataError: the images have other channels than it has numbers for.
    """
    chosen = data.preprocessing
    if asked is not None:
        chosen = parse_preprocessing(asked)
        if recorded not in (None, chosen):
            say(f"--preprocess {chosen.name}; it was made with {describe(recorded)}")
    elif recorded is not None:
        chosen = recorded
    elif model is not None and data.has_pixels:
        chosen = _found(model, data, say) or chosen
    if chosen is not None:
        check_channels(chosen, data.input_shape, f"dataset {data.name}")
    for line in data.notes:
        say(f"{data.name}: {line}")
    declared = dataclasses.replace(data, preprocessing=chosen, notes=())
    for line in (*_range_warnings(declared), *_model_warnings(declared, model)):
        say(f"warning: {line}")
    return declared


def _found(model: keras.Model, data: Dataset, say: Say) -> Preprocessing | None:
    from keras_quant.model.preprocess import find_preprocessing

    found = find_preprocessing(model, data.input_shape)
    if found is None:
        return None
    say(str(found))
    return found.preprocessing


def _range_warnings(data: Dataset) -> list[str]:
    """Where float images are of another range than was declared."""
    if data.preprocessing is None or data.has_pixels:
        return []
    low, high = data.preprocessing.range
    room = (high - low) * 1e-3
    found = []
    for part in ("train", "validation", "test"):
        x = getattr(data, part).x
        least, most = float(x.min()), float(x.max())
        if least < low - room or most > high + room or most - least < SMALL_SHARE * (high - low):
            found.append(f"{part} {least:.4g} to {most:.4g}")
    if not found:
        return []
    return [
        f"{data.name} holds floats ({', '.join(found)}); declared is "
        f"{describe(data.preprocessing)}. Floats are given as they are: save 8-bit pixels, or "
        "declare what they are"
    ]


def _model_warnings(data: Dataset, model: keras.Model | None) -> list[str]:
    """Where what pixels become leaves the range that a quantized model has codes for."""
    if model is None or data.preprocessing is None:
        return []
    from keras_quant.model.preprocess import input_range

    known = input_range(model, data.input_shape)
    if known is None:
        return []
    low, high = data.preprocessing.range
    room = (known[1] - known[0]) / 64
    if known[0] - room <= low and high <= known[1] + room:
        return []
    return [
        f"the model has codes for inputs of {known[0]:.4g} to {known[1]:.4g}; it is given "
        f"{describe(data.preprocessing)}, and what is beyond is cut off"
    ]


def without_labels(data: Dataset) -> str:
    """Says that nothing tells what is in the images."""
    return f"{data.name}: images without labels, so that no accuracy can be shown"


def tried_on(
    images: np.ndarray,
    labels: np.ndarray,
    answer: Callable[[np.ndarray, Preprocessing], np.ndarray],
) -> Callable[[Preprocessing], float]:
    """Gives what `guessing_warning` tries: the accuracy on TRIED_IMAGES under a preprocessing.

    Args:
        images: those of the data, of which the first are taken.
        labels: int (images,), the right classes.
        answer: a classifier's answers (images, classes) to images under a preprocessing.
    """
    x, y = images[:TRIED_IMAGES], labels[:TRIED_IMAGES]
    return lambda becomes: float(np.mean(answer(x, becomes).argmax(axis=-1) == y))


def guessing_warning(
    answers: np.ndarray,
    labels: np.ndarray,
    data: Dataset,
    try_another: Callable[[Preprocessing], float] | None = None,
) -> str:
    """Says that a classifier is no better than a guess, and how pixels might be given to it.

    Args:
        answers: int (images,), the classes that it gave.
        labels: int (images,), the right ones.
        data: that the images are of, with the preprocessing that was declared.
        try_another: accuracy under another preprocessing, on TRIED_IMAGES images; None where the
            model was trained on this one.
    Returns: "" where accuracy is more than STANDARD_ERRORS above one of the number of classes, and
        answers differ.
    """
    accuracy, chance = float(np.mean(answers == labels)), 1 / data.num_classes
    error = math.sqrt(chance * (1 - chance) / len(labels))
    is_guessing = accuracy <= chance + STANDARD_ERRORS * error
    is_constant = len(np.unique(answers)) == 1 and len(np.unique(labels)) > 1
    if not (is_guessing or is_constant):
        return ""
    text = f"accuracy {accuracy:.2%} on {len(labels):,} images of {data.num_classes} classes"
    text += " is that of guessing" if is_guessing else ""
    text += f", each is taken for class {answers[0]}" if is_constant else ""
    if not data.has_pixels:
        return f"{text}. Images are floats, given as they are: is the model made for their range?"
    assert data.preprocessing is not None, data.name
    text += f". The model is given {describe(data.preprocessing)}."
    if try_another is None:
        return (
            f"{text} More epochs or another --learning-rate may help; or other pixels: "
            f"--preprocess takes {', '.join(PREPROCESSINGS)}, or 'mean=M std=S'"
        )
    return f"{text} Was it trained on other values? {_tried(data, try_another)}"


def _tried(data: Dataset, try_another: Callable[[Preprocessing], float]) -> str:
    found = {
        name: try_another(known)
        for name, known in PREPROCESSINGS.items()
        if known != data.preprocessing and known.channels in (None, data.input_shape[-1])
    }
    best = sorted(found, key=lambda name: -found[name])
    shares = ", ".join(f"{name} {found[name]:.1%}" for name in best)
    return (
        f"With --preprocess, on the first {TRIED_IMAGES} images: {shares}; 'mean=M std=S' is "
        "taken too"
    )

"""Whether Keras' own predict answers as a model is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_quant.jobs.loaded import Loaded
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.distance import Distance

if TYPE_CHECKING:
    from keras_quant.tf import keras

COMPARED_IMAGES = 64


def predict_note(loaded: Loaded, images: np.ndarray, becomes: Preprocessing | None) -> str:
    """Says how far `model.predict(x)` is from `model(x)`, see `model.logits.sums_as_written`.

    Args:
        images: uint8 or float32 (images, height, width, channels); the first COMPARED_IMAGES count.
        becomes: what pixels become in front of the model.
    Returns: "" where they answer alike, and of files and models without a method's layers.
    """
    if loaded.model is None or not _has_quantizers(loaded.model):
        return ""
    given = images[:COMPARED_IMAGES]
    answers = loaded.ask(given, becomes)
    predicted = _predict(loaded.model, normalize(given, becomes))
    distance = Distance()
    for found, expected in zip(predicted, answers.values(), strict=True):
        distance.add(found, expected)
    far = distance.images - distance.near
    if not far:
        return ""
    return (
        f"{loaded.file}: Keras' predict(x) is up to {distance.largest:.3g} from model(x) on {far} "
        f"of {distance.images} answers, as TensorFlow adds in another order where it optimizes "
        "graphs; what is judged here, and what files answer, is model(x) (docs/qkeras.md)"
    )


def _has_quantizers(model: keras.Model) -> bool:
    from keras_quant.methods.readers import file_names
    from keras_quant.model.topology import layers_by_name

    classes = file_names().classes
    return any(type(layer).__name__ in classes for layer in layers_by_name(model).values())


def _predict(model: keras.Model, reals: np.ndarray) -> list[np.ndarray]:
    from keras_quant.tf import tf

    answers: list[np.ndarray] = tf.nest.flatten(model.predict(reals, verbose=0))
    return answers

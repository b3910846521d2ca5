"""What a file answers to images."""

from __future__ import annotations

import numpy as np

from keras_quant.errors import ModelError
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.runners import Runner

BATCH_SIZE = 100


def run_logits(
    runner: Runner, images: np.ndarray, preprocessing: Preprocessing | None
) -> np.ndarray:
    """Runs a classifier with one input and one output over images.

    Args:
        images: uint8 or float32 (images, height, width, channels).
        preprocessing: what pixels become, unless the file takes pixels; None will do where
            images are floats.
    Returns: float32 (images, classes).
    Raises:
        ModelError: the file has several inputs or outputs.
        DataError: the images do not fit its input.
    """
    if len(runner.inputs) != 1:
        raise ModelError(f"the file has inputs {', '.join(runner.inputs)}; one is supported")
    answers: list[np.ndarray] = []
    as_they_are = runner.info.takes_pixels and images.dtype == np.uint8
    for start in range(0, len(images), BATCH_SIZE):
        batch = images[start : start + BATCH_SIZE]
        given = batch if as_they_are else normalize(batch, preprocessing)
        outputs = runner.run({runner.inputs[0]: given})
        if len(outputs) != 1:
            raise ModelError(f"the file has outputs {', '.join(outputs)}; one is supported")
        answers.extend(outputs.values())
    return np.concatenate(answers)

"""What a file answers to images."""

from __future__ import annotations

import numpy as np

from keras_quant.data import normalize
from keras_quant.errors import ModelError
from keras_quant.runners import Runner

BATCH_SIZE = 100


def run_logits(runner: Runner, images: np.ndarray) -> np.ndarray:
    """Runs a classifier with one input and one output over images.

    Args:
        images: uint8 or float32 (images, height, width, channels).
    Returns: float32 (images, classes).
    Raises:
        ModelError: the file has several inputs or outputs.
        DataError: the images do not fit its input.
    """
    if len(runner.inputs) != 1:
        raise ModelError(f"the file has inputs {', '.join(runner.inputs)}; one is supported")
    answers: list[np.ndarray] = []
    for start in range(0, len(images), BATCH_SIZE):
        outputs = runner.run({runner.inputs[0]: normalize(images[start : start + BATCH_SIZE])})
        if len(outputs) != 1:
            raise ModelError(f"the file has outputs {', '.join(outputs)}; one is supported")
        answers.extend(outputs.values())
    return np.concatenate(answers)

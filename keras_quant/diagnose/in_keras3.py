"""A file of Keras 3, run by Keras 3: a runner that gives what each layer puts out.

It runs in a child process, see `runners.child`, which never imports the Keras 2 that all else here
runs on. Whether the file may run code is for who starts the child to check before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.errors import ModelError
from keras_quant.runners import Inference, RunnerInfo


class Keras3Layers:
    """A functional or sequential model's own layers that are called once and give one tensor."""

    def __init__(self, file: Path) -> None:
        """Loads a file.

        Raises:
            ModelError: Keras 3 is not there, or does not load it.
        """
        try:
            import keras
        except ImportError as error:
            raise ModelError(f"{file}: Keras 3 is not installed: pip install keras") from error
        if not keras.__version__.startswith("3."):
            raise ModelError(f"{file}: keras is {keras.__version__} here; 3 is needed")
        try:
            model = keras.saving.load_model(str(file), compile=False, safe_mode=True)
            layers = [layer for layer in model.layers if _is_simple(layer)]
            self._model = keras.Model(model.inputs, [layer.output for layer in layers])
        except Exception as error:  # of Keras, of any kind
            text = " ".join(str(error).split())
            raise ModelError(
                f"{file}: Keras {keras.__version__} does not load it: {text}"
            ) from error
        self._names = tuple(layer.name for layer in layers)
        self.inputs = tuple(f"{place}" for place in range(len(model.inputs)))
        self.info = RunnerInfo(
            name="keras", kernels=(keras.backend.backend(),), versions={"keras": keras.__version__}
        )

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        """Takes a batch, see Runner; there is nothing to do ahead."""
        return partial(self.run, inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Computes a batch: inputs by their place, "0" for the first."""
        outputs = self._model([inputs[name] for name in self.inputs], training=False)
        values = outputs if isinstance(outputs, list | tuple) else [outputs]
        return {
            name: np.asarray(value, np.float32)
            for name, value in zip(self._names, values, strict=True)
        }


def _is_simple(layer: Any) -> bool:
    """Whether a layer is called once, computes something and puts out one tensor of floats."""
    is_input = type(layer).__name__ == "InputLayer"
    if is_input or len(layer._inbound_nodes) != 1:
        return False
    output = layer.output
    return not isinstance(output, list | tuple | dict) and "float" in str(output.dtype)

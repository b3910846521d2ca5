"""What a file is compared with: a float model, as layers with their values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from keras_quant.diagnose.contents import FileContents
from keras_quant.diagnose.match import FloatLayer
from keras_quant.diagnose.probe import open_probe, reals
from keras_quant.errors import DataError
from keras_quant.model.parts import unfold_calls
from keras_quant.model.topology import list_calls
from keras_quant.tf import keras, tf


class Reference(Protocol):
    """A model whose layers' values are right."""

    layers: tuple[FloatLayer, ...]
    outputs: tuple[str, ...]

    def values(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Gives what each layer puts out.

        Args:
            images: float32 (images, ...), as the model takes them.
        Returns: by layer, float32 (images, ..., channels).
        """
        ...


class KerasLayers:
    """A functional Keras model of one input, layer by layer; separable ones in their halves."""

    def __init__(self, model: keras.Model) -> None:
        """Takes a model. Raises: LoweringError: its layers cannot be followed."""
        calls = unfold_calls(list_calls(model))
        self.layers = tuple(
            FloatLayer(name=call.name, kind=type(call.layer).__name__, inputs=call.inputs)
            for call in calls
        )
        ends = {place: call.name for call in calls for place in call.outputs}
        self.outputs = tuple(ends[place] for place in sorted(ends))

        def run(images: object) -> dict[str, object]:
            values: dict[str, object] = {}
            for call in calls:
                read = [values[name] for name in call.inputs]
                given = read if len(read) > 1 else read[0] if read else images
                # Layers like Dropout ask Keras whether it trains, where nobody tells them.
                values[call.name] = call.layer(given) if read else given
            return values

        self._run = tf.function(
            run, input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)]
        )

    def values(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """See Reference."""
        found = self._run(images)
        return {name: np.asarray(value, np.float32) for name, value in found.items()}


class FileLayers:
    """A float .tflite or .onnx file, operator by operator, in a child process."""

    def __init__(self, file: Path) -> None:
        """Opens a file. Raises: ModelError: it is none."""
        self._contents, self._runner = open_probe(file)
        names = _unique_names(self._contents)
        self._names = names
        first = [
            FloatLayer(name=names[key], kind="input", inputs=()) for key in self._contents.inputs
        ]
        self.layers = (
            *first,
            *(
                FloatLayer(
                    name=names[one.output],
                    kind=one.op,
                    inputs=tuple(names[key] for key in one.inputs),
                )
                for one in self._contents.operators
            ),
        )
        self.outputs = tuple(names[key] for key in self._contents.outputs if key in names)

    def values(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """See Reference."""
        if len(self._runner.inputs) != 1:
            raise DataError(f"the float model has inputs {', '.join(self._runner.inputs)}")
        arrays = self._runner.run({self._runner.inputs[0]: images})
        found = {self._names[key]: images for key in self._contents.inputs}
        for key, array in arrays.items():
            value = reals(array, self._contents.tensors[key])
            if self._contents.channels_first and value.ndim > 2:
                value = np.ascontiguousarray(np.moveaxis(value, 1, -1))
            found[self._names[key]] = value
        return found


def _unique_names(contents: FileContents) -> dict[str, str]:
    names: dict[str, str] = {}
    for key, tensor in contents.tensors.items():
        names[key] = tensor.name if tensor.name not in names.values() else f"{tensor.name} ({key})"
    return names

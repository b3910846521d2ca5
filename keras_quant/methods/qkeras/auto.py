"""AutoQKeras, made to run with the Keras of today.

Coelho et al., "Automatic heterogeneous quantization of deep neural networks for low-latency
inference on the edge for particle detectors", Nature Machine Intelligence 3 (2021), section 4.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_quant.methods.qkeras.door import load_autoqkeras, qkeras
from keras_quant.methods.qkeras.repair import custom_objects
from keras_quant.tf import keras

KINDS = ("Conv1D", "Conv2D", "Dense", "DepthwiseConv2D")
"""Keras classes of the layers whose kernels it can give bits to."""

Arrays = tuple[np.ndarray, np.ndarray]
"""Inputs as the model takes them, and labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A mix that was trained.

    Attributes:
        bits: of each layer's kernel.
        accuracy: on the validation images, a share.
    """

    bits: Mapping[str, int]
    accuracy: float


def try_mixes(
    model: keras.Model,
    train: Arrays,
    validation: Arrays,
    *,
    widths: Sequence[int],
    trials: int,
    epochs: int,
    seed: int = 0,
) -> list[Trial]:
    """Lets AutoQKeras train mixes that it draws at random, each from the model's weights.

    Kernels get QKeras' own quantized_bits; activations stay in float, as do biases: the space is
    that of kernels alone.

    Args:
        model: in float, a classifier that puts out logits, with layers of KINDS.
        widths: that kernels may have.
        trials: how many mixes.
        epochs: of each.
    Returns: the trials, the most accurate first.
    """
    kernels = {f"quantized_bits({bits},0,1,alpha='auto')": bits for bits in widths}
    most = max(widths)
    given = keras.models.clone_model(model)
    given.set_weights(model.get_weights())
    given.compile(
        # Trials share it, and the other Adam learns for variables that it knew at first alone.
        keras.optimizers.legacy.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, _loadable(), contextlib.redirect_stdout(said):
        search = load_autoqkeras().AutoQKeras(
            given,
            metrics=["accuracy"],
            output_dir=folder,
            goal=_GOAL,
            quantization_config={"kernel": kernels, "bias": _WIDE, "activation": {}, "linear": {}},
            limit={kind: [most, 31, 31] for kind in KINDS},
            transfer_weights=True,
            tune_filters="none",
            tune_filters_exceptions="",
            max_trials=trials,
            mode="random",
            seed=seed,
            overwrite=True,
        )
        search.fit(*train, epochs=epochs, batch_size=64, validation_data=validation, verbose=0)
        found = search.tuner.oracle.get_best_trials(trials)
    mixes = [_read(trial, model, kernels) for trial in found]
    return sorted(mixes, key=lambda trial: -trial.accuracy)


_WIDE = {"quantized_bits(31,15,1)": 31}  # as good as float
# Which of two mixes AutoQKeras prefers; the caller chooses by accuracy and cost, and not by that.
_GOAL = {
    "type": "bits",
    "params": {
        **{"delta_p": 8.0, "delta_n": 8.0, "rate": 2.0, "stress": 1.0},
        **{"input_bits": 8, "output_bits": 8, "ref_bits": 8},
        "config": {"default": ["parameters", "activations"]},
    },
}


def _read(trial: Any, model: keras.Model, kernels: Mapping[str, int]) -> Trial:
    values = trial.hyperparameters.values
    bits = {
        layer.name: kernels[values[f"{layer.name}_kernel_quantizer"]]
        for layer in model.layers
        if type(layer).__name__ in KINDS
    }
    return Trial(bits=bits, accuracy=float(trial.metrics.get_best_value("val_accuracy")))


@contextlib.contextmanager
def _loadable() -> Iterator[None]:
    """Lets Keras find the layers that QKeras writes into a model's JSON.

    QKeras puts the names of its classes in place of Keras' own, and leaves the module of the latter
    beside them, in which newer Keras then looks for them in vain.
    """
    utils = qkeras.utils
    load, names = utils.quantized_model_from_json, custom_objects().keys()

    def mended(text: str, custom_objects: Any = None) -> Any:
        content = json.loads(text)
        _mend(content, names)
        return load(json.dumps(content), custom_objects)

    utils.quantized_model_from_json = mended
    try:
        yield
    finally:
        utils.quantized_model_from_json = load


def _mend(content: Any, names: Any) -> None:
    if isinstance(content, dict):
        if content.get("class_name") in names and "module" in content:
            content |= {"module": None, "registered_name": content["class_name"]}
        for value in content.values():
            _mend(value, names)
    elif isinstance(content, list):
        for value in content:
            _mend(value, names)

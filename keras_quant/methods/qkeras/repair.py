"""What QKeras 0.9 loses, or cannot load again, when a model is saved; mended in its classes.

Only what fails without it is changed: a quantizer computes what QKeras computes, bit for bit, and
is saved as QKeras saves it unless that would lose an argument. So a model that a user brings
answers here as it does there.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_quant.methods.qkeras.door import qkeras
from keras_quant.tf import keras, tf

_QUANTIZERS = (
    *("bernoulli", "binary", "quantized_bits", "quantized_hswish", "quantized_po2"),
    *("quantized_relu", "quantized_relu_po2", "quantized_sigmoid", "quantized_tanh"),
    *("quantized_ulaw", "stochastic_binary", "stochastic_ternary", "ternary"),
)
_FUNCTIONS = (
    *("binary_sigmoid", "binary_tanh", "hard_sigmoid", "hard_tanh"),
    *("smooth_sigmoid", "smooth_tanh"),
)


def custom_objects() -> dict[str, Any]:
    """What Keras has to know to load a model of QKeras' layers, by name."""
    found: dict[str, Any] = {}
    qkeras.utils._add_supported_quantized_objects(found)
    return found | {name: getattr(qkeras.quantizers, name) for name in (*_QUANTIZERS, *_FUNCTIONS)}


@keras.utils.register_keras_serializable("keras_quant")
class QConv2DTranspose(qkeras.QConv2DTranspose):
    """QKeras' layer, whose constructor drops the output_padding that it could compute with."""

    def __init__(self, *args: Any, output_padding: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if output_padding is not None:
            self.output_padding = tuple(output_padding)


@functools.cache
def repair_qkeras() -> None:
    """Repairs how QKeras saves and loads its quantizers, once, for this process.

    Also hides the warning that QKeras' layers set off whenever they give their settings: they
    serialize quantizers as if they were constraints, which works.
    """
    warnings.filterwarnings("ignore", message=".*constraints.serialize.*fitted_bits")
    # QConv2DTranspose looks for it in a module of TensorFlow that no longer has it.
    if not hasattr(qkeras.qconvolutional.array_ops, "stack"):
        qkeras.qconvolutional.array_ops.stack = tf.stack
    for name in _QUANTIZERS:
        cls = getattr(qkeras.quantizers, name)
        cls.get_config = _with_lost_arguments(cls)
        cls.from_config = classmethod(_from_config)
    qkeras.QActivation.from_config = classmethod(_activation_from_config)
    qkeras.QAdaptiveActivation.get_config = _with_its_bound(qkeras.QAdaptiveActivation)


def settle(model: keras.Model) -> None:
    """Gives the adaptive activations of a loaded model the steps that their ranges ask for.

    QKeras finds them at the end of each call, so that it answers the first one with others.
    """
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, qkeras.QAdaptiveActivation) and layer.built:
            layer.quantizer.integer.assign(integer_bits(layer))


def integer_bits(layer: qkeras.QAdaptiveActivation) -> tf.Tensor:
    """The bits in front of the point that an adaptive activation's ranges ask for.

    Returns: int32, (1,) or (channels,).
    """
    return qkeras.quantizers._get_integer_bits(
        min_value=layer.ema_min,
        max_value=layer.ema_max,
        bits=layer.total_bits,
        symmetric=layer.symmetric,
        keep_negative=layer.keep_negative,
        is_clipping=layer.po2_rounding,
    )


def settled(layer: qkeras.QAdaptiveActivation) -> Any:
    """The quantizer, of fixed arguments, that an adaptive activation computes with in inference."""
    config = {**layer.quantizer.get_config(), "integer": integer_bits(layer).numpy()}
    config |= {"qnoise_factor": 1.0}  # what a trained layer holds may be a tensor of a lost graph
    return type(layer.quantizer).from_config(config)


def _with_its_bound(cls: Any) -> Callable[[Any], dict[str, Any]]:
    config = cls.get_config

    def get_config(self: Any) -> dict[str, Any]:
        bound = self.relu_upper_bound
        known: dict[str, Any] = config(self)
        return known if bound is None else known | {"relu_upper_bound": bound}

    return get_config


def _with_lost_arguments(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """A get_config that also gives what the constructor was given and QKeras' own leaves out."""
    config, parameters = cls.get_config, inspect.signature(cls.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if name != "self"}

    @functools.wraps(config)
    def get_config(self: Any) -> dict[str, Any]:
        known = {name: value for name, value in config(self).items() if name in defaults}
        lost = {name: getattr(self, name) for name in defaults if name not in known}
        return known | {name: value for name, value in lost.items() if value != defaults[name]}

    return get_config


def _from_config(cls: Any, config: dict[str, Any]) -> Any:
    """Makes a quantizer; alpha comes as a list, or wrapped, where it was an array.

    QKeras writes keep_negative of a quantized_hswish, whose constructor does not take it.
    """
    known = inspect.signature(cls.__init__).parameters
    config = {name: value for name, value in config.items() if name in known}
    alpha = config.get("alpha")
    if isinstance(alpha, dict) and alpha.get("class_name") == "__numpy__":
        alpha = alpha["config"]["value"]
    if isinstance(alpha, (list, tuple)):
        config["alpha"] = np.asarray(alpha, np.float32)
    return cls(**config)


def _activation_from_config(cls: type, config: dict[str, Any]) -> Any:
    """Makes a QActivation; its quantizer comes as a dict where it was an object."""
    activation = config["activation"]
    if isinstance(activation, dict):
        activation = keras.activations.deserialize(activation, custom_objects())
    return cls(**{**config, "activation": activation})

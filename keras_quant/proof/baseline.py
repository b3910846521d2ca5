"""Float files of a model as its usual converters write them, to compare ours with."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from keras_quant.errors import LoweringError, MissingDependencyError
from keras_quant.methods.layers import InputGrid
from keras_quant.methods.method import Activation
from keras_quant.methods.readers import class_name, file_names, is_quantized, read_activation
from keras_quant.model.pointwise import Function
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import copy_weights
from keras_quant.quiet import native_logs_hidden
from keras_quant.tf import keras, tf

BASELINE_OPSET = 17

_KERNEL_SETTINGS = {
    *("name", "filters", "kernel_size", "units", "depth_multiplier"),
    *("strides", "padding", "dilation_rate", "groups", "output_padding", "use_bias"),
}


def without_quantizers(model: keras.Model) -> keras.Model:
    """Gives the model with its weights in float, and its activations not rounded.

    Quantizers of codes from 0 become ReLUs; all others, and the input's, are left out.

    Raises:
        LoweringError: layers whose quantizers cannot be taken out.
    """
    names = file_names().classes
    plain = keras.models.clone_model(model, clone_function=_plain)
    left = [
        f"{n} ({type(x).__name__})"
        for n, x in layers_by_name(plain).items()
        if type(x).__name__ in names
    ]
    if left:
        raise LoweringError(
            f"the quantizers of these layers cannot be taken out for a float file: "
            f"{', '.join(left)}; leave out --float"
        )
    copy_weights(model, plain)
    return plain


def float_tflite(model: keras.Model) -> bytes:
    """A float model as TFLiteConverter writes it, for one image."""
    signature = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    function = tf.function(lambda x: model(x, training=False)).get_concrete_function(signature)
    with native_logs_hidden():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
        content: bytes = converter.convert()
    return content


def float_onnx(model: keras.Model) -> bytes:
    """A float model as tf2onnx writes it, for any batch."""
    try:
        import tf2onnx
    except ImportError as error:
        raise MissingDependencyError(
            "float ONNX files are written by tf2onnx: pip install tf2onnx"
        ) from error
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")]
    with native_logs_hidden():
        proto, _ = tf2onnx.convert.from_keras(model, signature, opset=BASELINE_OPSET)
    content: bytes = proto.SerializeToString()
    return content


BASELINES: dict[str, Callable[[keras.Model], bytes]] = {
    ".tflite": float_tflite,
    ".onnx": float_onnx,
}
"""By the suffix of the file that one is compared with."""


def _plain(layer: keras.layers.Layer) -> keras.layers.Layer:
    """A layer as it would be without quantization."""
    if isinstance(layer, InputGrid):
        return keras.layers.Activation("linear", name=layer.name)
    if is_quantized(layer):
        return _plain_kernel(layer)
    found = read_activation(layer, layer.name)
    if found is None:
        return type(layer).from_config(layer.get_config())
    return keras.layers.Activation(_plain_function(found), name=layer.name)


def _plain_kernel(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Initializers and constraints stay behind: the weights are copied, and not trained."""
    cls = getattr(keras.layers, class_name(layer))
    known = _KERNEL_SETTINGS & set(inspect.signature(cls.__init__).parameters) | {"name"}
    config = {name: value for name, value in layer.get_config().items() if name in known}
    found = read_activation(layer.activation, layer.name)
    activation = layer.activation if found is None else _plain_function(found)
    return cls(**config, activation=activation)


def _plain_function(activation: Activation) -> Function:
    """What an activation computes where nothing is rounded; a sign is a rounded value."""
    function, grid = activation.function, activation.qparams
    if function is not None and (grid is None or read_activation(function, "") is None):
        return function
    is_linear = grid is None or grid.signed
    plain: Function = keras.activations.linear if is_linear else keras.activations.relu
    return plain

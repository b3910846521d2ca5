"""Nets of several widths as one net to train: kernels shared, norms and steps of their own.

AdaBits (Jin et al. 2020) and any-precision nets (Yu et al. 2021) run each batch through all widths
of one set of weights and learn from the sum of their losses; each width has batch norms of its own,
since the statistics of its values are its own, and steps of its own. Here that is one Keras model
with an output for each width, the widest last, so that what is there for several outputs goes for
widths too: weights of their losses, orthogonal gradients, and answers of the last that the others
learn, as in Yu et al. 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_quant.errors import UsageError
from keras_quant.methods.readers import is_quantized
from keras_quant.methods.twins import Twin
from keras_quant.model.topology import layers_by_name, variables_by_name
from keras_quant.prepare import copy_weights
from keras_quant.tf import keras, tf
from keras_quant.training.slim import first_part


def join_widths(models: Mapping[str, keras.Model]) -> keras.Model:
    """Makes one model of several widths of a net, which share each kernel.

    Whatever trains it trains all of them. The narrower models compute with the widest's kernels
    from then on, and are saved in no file: `copy_width` gives one its own again.

    Args:
        models: by the names of widths, the widest first: one net with other quantizers. The first
            one's kernels are kept, and their steps where a method shares these, see `Twin.shared`.
    Returns: a functional model of one input, whose outputs are those of the models, the widest
        last; their names are its layers'.
    Raises:
        UsageError: a method's kernels cannot be shared, with the names of all layers.
    """
    widest, *others = models.values()
    owners = layers_by_name(widest)
    refused = dict.fromkeys(
        name
        for model in models.values()
        for name, layer in layers_by_name(model).items()
        if is_quantized(layer) and not isinstance(layer, Twin)
    )
    if refused:
        raise UsageError(
            f"kernels of {', '.join(refused)} cannot be shared by several widths as their method "
            "rounds them; methods that can are nested, lsq, pact and dorefa"
        )
    for model in others:
        for name, layer in layers_by_name(model).items():
            if name in owners:
                _share(owners[name], layer)
    inputs = keras.Input(widest.input_shape[1:], name="image")
    outputs = []
    for name, model in reversed(list(models.items())):
        model._name = name  # of layers within a model, which differ
        outputs.append(model(inputs))
    return keras.Model(inputs, outputs, name=widest.name)


def shared_variables(layer: keras.layers.Layer) -> tuple[str, ...]:
    """The attributes of a layer whose variables widths share."""
    if isinstance(layer, Twin):
        return layer.shared
    for name in ("depthwise_kernel", "kernel"):
        if getattr(layer, name, None) is not None:
            return (name,)
    return ()


def _share(owner: keras.layers.Layer, layer: keras.layers.Layer) -> None:
    for name in shared_variables(layer):
        variable, own = getattr(owner, name), getattr(layer, name)
        same = own.shape == variable.shape
        setattr(layer, name, variable if same else FirstPart(variable, own.shape))


class FirstPart:
    """The first values of a variable along each axis, in place of a variable of fewer.

    A layer computes with what they are at that time, and gradients go to the variable.

    Args:
        variable: of a wider layer.
        shape: of the part.
    """

    def __init__(self, variable: tf.Variable, shape: tf.TensorShape) -> None:
        self.variable, self.shape, self.dtype = variable, shape, variable.dtype

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> tf.Tensor:
        part = tf.convert_to_tensor(self.variable)[first_part(self.shape)]
        return part if dtype is None else tf.cast(part, dtype)


def copy_width(joint: keras.Model, width: str, model: keras.Model) -> None:
    """Copies a width of a joint model into a model of its own.

    Args:
        joint: of `join_widths`.
        width: its name there.
        model: as that width was before it shared anything.
    """
    given = layers_by_name(joint.get_layer(width))
    for name, layer in layers_by_name(model).items():
        shared = {key: getattr(given[name], key) for key in shared_variables(layer)}
        ours = {id(getattr(layer, key)): value for key, value in shared.items()}
        theirs = variables_by_name(given[name])
        for key, variable in variables_by_name(layer).items():
            variable.assign(ours[id(variable)] if id(variable) in ours else theirs[key])


def float_twin(joint: keras.Model, width: str, source: keras.Model) -> keras.Model:
    """The float model with the kernels of a joint one, and the norms and biases of a width.

    Returns: the source itself, whose weights change.
    """
    copy_weights(joint.get_layer(width), source)
    return source

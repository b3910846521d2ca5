"""A Keras model as a list of operations: one plain view for preparing and for lowering it.

Fused activations become operations of their own, a method's layers count as what they compute, and
everything that is not understood is reported at once, by name.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_quant.errors import LoweringError
from keras_quant.methods import METHODS
from keras_quant.methods.method import Activation
from keras_quant.methods.readers import class_name, read_activation
from keras_quant.model.combined import COMBINED, meets_batch
from keras_quant.model.norms import affine_layer
from keras_quant.model.parts import SHORTHANDS, is_shorthand, unfold_calls, why_whole
from keras_quant.model.pointwise import POINTWISE_LAYERS, Function, is_pointwise
from keras_quant.model.topology import Call, Shape, free_name, list_calls
from keras_quant.qparams import QParams
from keras_quant.tf import keras, tf

COMPUTE = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "dense")
AVERAGE = ("avg_pool", "mean")
# Operations that put out codes of the grid that they take in.
PASSING = (
    *("max_pool", "global_max_pool", "reshape", "transpose", "pad", "upsample", "concat"),
    *("dropout", "linear"),
)

# They pass values on in inference.
TRAINING_ONLY = (
    *("AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D"),
    *("ActivityRegularization", "Identity", "RandomBrightness", "RandomContrast", "RandomFlip"),
    *("RandomRotation", "RandomTranslation", "RandomZoom"),
)

# They pass their first input on in inference, and read others too while training.
READ_WHILE_TRAINING = ("Sample", "PonderCost")

_KINDS = {
    "InputLayer": "input",
    "Conv1D": "conv2d",
    "Conv2D": "conv2d",
    "Conv2DTranspose": "conv2d_transpose",
    "DepthwiseConv2D": "depthwise_conv2d",
    "Dense": "dense",
    "BatchNormalization": "batch_norm",
    "ReLU": "relu",
    "Add": "add",
    "Multiply": "multiply",
    "MaxPooling1D": "max_pool",
    "MaxPooling2D": "max_pool",
    "AveragePooling1D": "avg_pool",
    "AveragePooling2D": "avg_pool",
    "GlobalAveragePooling1D": "mean",
    "GlobalAveragePooling2D": "mean",
    "GlobalMaxPooling1D": "global_max_pool",
    "GlobalMaxPooling2D": "global_max_pool",
    "Flatten": "reshape",
    "Reshape": "reshape",
    "Permute": "transpose",
    "ZeroPadding1D": "pad",
    "ZeroPadding2D": "pad",
    "Cropping1D": "pad",
    "Cropping2D": "pad",
    "UpSampling1D": "upsample",
    "UpSampling2D": "upsample",
    "Resizing": "upsample",
    "Concatenate": "concat",
    "Dropout": "dropout",
    **dict.fromkeys(READ_WHILE_TRAINING, "dropout"),
    **dict.fromkeys(TRAINING_ONLY, "dropout"),
    "Softmax": "softmax",
    **dict.fromkeys(POINTWISE_LAYERS, "lookup"),
}
_NO_PARTS = "channels last, and statistics of positions only of inputs of one size, are supported"
_NOT_COMBINED = "inputs of one shape, without None, are supported"
_BATCH_MET = (
    "an operator between {} lays the batch of one beside an axis of the other; use "
    "keras.layers.Add or Multiply, or keepdims=True"
)
SUPPORTED = tuple(dict.fromkeys((*_KINDS, *SHORTHANDS, *COMBINED)))
SUPPORTED += ("Activation('softmax' or a function of one value)",)
SUPPORTED += tuple(f"the layers of {name}" for name in METHODS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operation:
    """One thing that a layer does.

    Attributes:
        name: the call's name (see `topology`); a fused activation's is "CALL/activation".
        kind: a value of the table above, "linear", "to_float", that of a class below, or
            "output" of what stands for the model's caller.
        layer: the Keras layer.
        inputs: names of the operations that it reads.
        max_value: upper end of a relu: None or 6.0.
        layer_name: of the layer, unique in the model and the same in all its calls.
        owner: that of the model's layer, where the operation's layer is a part of it (`parts`).
        input_shapes: of what the call reads, without the batch axis.
        shape: of what the call puts out, without the batch axis.
        outputs: where among the model's outputs its value stands.
        while_training: names of those that its layer reads too, of which inference sees nothing.
    """

    name: str
    kind: str
    layer: Any
    inputs: tuple[str, ...] = ()
    max_value: float | None = None
    layer_name: str = ""
    owner: str | None = None
    input_shapes: tuple[Shape, ...] = ()
    shape: Shape = ()
    outputs: tuple[int, ...] = ()
    while_training: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantizer(Operation):
    """Rounds values to a grid."""

    kind: str = "quantizer"
    qparams: QParams


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sign:
    """What a sign gives in front of its rounding.

    Attributes:
        dead_band: real, at least 0, see `methods.method.Activation`.
        scale: the real value of 1.
    """

    dead_band: float
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookup(Operation):
    """Computes a function of each value.

    Attributes:
        function: a Keras function, or the layer itself.
        sign: where the function is one; None for others.
    """

    kind: str = "lookup"
    function: Function
    sign: Sign | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operations:
    """A model's operations, each after those that it reads, with what reads what.

    Attributes:
        in_order: first the model's inputs, in the model's order.
        by_name: the same by their names.
        readers: for each operation's name the operations that read it; the model's caller counts
            as an operation of kind "output" for each output.
        inputs: names of the operations that are the model's inputs, in the model's order.
        outputs: likewise of its outputs.
    """

    in_order: tuple[Operation, ...]
    by_name: Mapping[str, Operation]
    readers: Mapping[str, tuple[Operation, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.in_order)

    def users(self, name: str) -> list[Operation]:
        """What reads an operation's values, seen through operations that only pass them on."""
        found = _reached(
            [name],
            lambda at: [reader.name for reader in self.readers[at] if reader.kind in PASSING],
        )
        through = [reader for at in found for reader in self.readers[at]]
        return list(dict.fromkeys(reader for reader in through if reader.kind not in PASSING))

    def sources(self, name: str) -> tuple[str, ...]:
        """On whose grids an operation's values are: those that its like only pass on."""
        found = _reached([name], self._passed_on)
        return tuple(at for at in found if self.by_name[at].kind not in PASSING)

    def read_by(self, operation: Operation) -> tuple[str, ...]:
        """The operations on whose grids the values are that an operation reads."""
        found = _reached(operation.inputs, self._passed_on)
        return tuple(at for at in found if self.by_name[at].kind not in PASSING)

    def _passed_on(self, name: str) -> tuple[str, ...]:
        """What an operation reads, where it passes that on."""
        operation = self.by_name[name]
        return operation.inputs if operation.kind in PASSING else ()


def _reached(names: Sequence[str], onward: Callable[[str], Sequence[str]]) -> list[str]:
    """Names, and those that lead on from them, depth first; each once, however many ways there are.

    Args:
        onward: gives the names that follow one.
    """
    found: dict[str, None] = {}
    waiting = list(reversed(names))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += reversed(onward(name))
    return list(found)


def describe(model: keras.Model) -> Operations:
    """Lists a functional or sequential model's operations, each after those that it reads.

    Returns: the operations, first the model's inputs, in the model's order.
    Raises:
        LoweringError: layers that are not supported, all of them, with names and reasons.
    """
    operations: list[Operation] = []
    problems: list[str] = []
    tail: dict[str, str] = {}
    calls = unfold_calls(list_calls(model))
    taken = {call.name for call in calls}
    for call in calls:
        inputs = tuple(tail[name] for name in call.inputs)
        found = _told_apart(call, _operations_of(call, inputs, problems), taken)
        tail[call.name] = found[-1].name
        found[-1] = dataclasses.replace(found[-1], outputs=call.outputs)
        operations += [
            dataclasses.replace(
                operation,
                layer_name=call.layer_name,
                owner=call.owner,
                input_shapes=call.input_shapes,
                shape=call.shape,
            )
            for operation in found
        ]
    problems = list(dict.fromkeys(problems))  # a shared layer's are found in each call
    if problems:
        raise LoweringError(
            f"model {model.name}: {len(problems)} layers are not supported: "
            f"{'; '.join(problems)}. Supported: {', '.join(SUPPORTED)}"
        )
    return connect(operations)


def _told_apart(call: Call, operations: Sequence[Operation], taken: set[str]) -> list[Operation]:
    """A call's operations; what it calls "CALL/..." by a free name where another has that one.

    Args:
        operations: each but the first reads the one before it.
        taken: names of all calls, and of these operations afterwards.
    """
    names = {
        o.name: o.name if o.name == call.name else free_name(o.name, taken) for o in operations
    }
    taken.update(names.values())
    first, *others = (dataclasses.replace(o, name=names[o.name]) for o in operations)
    inside = (dataclasses.replace(o, inputs=tuple(names[i] for i in o.inputs)) for o in others)
    return [first, *inside]


def connect(operations: Sequence[Operation]) -> Operations:
    """Says what reads what among operations, each of which stands after those that it reads."""
    readers: dict[str, list[Operation]] = {operation.name: [] for operation in operations}
    places: dict[int, str] = {}
    for operation in operations:
        for name in dict.fromkeys(operation.inputs):
            readers[name].append(operation)
        for place in operation.outputs:
            caller = Operation(
                name=f"output {place}", kind="output", layer=None, inputs=(operation.name,)
            )
            readers[operation.name].append(caller)
            places[place] = operation.name
    return Operations(
        in_order=tuple(operations),
        by_name={operation.name: operation for operation in operations},
        readers={name: tuple(found) for name, found in readers.items()},
        inputs=tuple(operation.name for operation in operations if operation.kind == "input"),
        outputs=tuple(places[place] for place in sorted(places)),
    )


def _operations_of(call: Call, inputs: tuple[str, ...], problems: list[str]) -> list[Operation]:
    name, layer, cls = call.name, call.layer, class_name(call.layer)
    if cls == "Activation":
        return _activation_operations(call, layer.activation, name, inputs, problems)
    found = _read(layer, layer, problems)
    if found is not None:
        return _read_operations(call, found, name, inputs, problems)
    if cls == "KeepFloat":
        return [Operation(name=name, kind="to_float", layer=layer, inputs=inputs)]
    kind = _KINDS.get(cls)
    if kind is None and (reason := why_whole(layer, call.input_shapes)):
        problems.append(reason)
    else:
        reason = _unsupported(layer, cls, call) if kind else _reason(layer, cls, call)
        problems += [f"{call.layer_name} ({cls}: {reason})"] if reason else []
    if kind == "lookup" or (kind == "relu" and _is_bent(layer)):
        return [Lookup(name=name, layer=layer, inputs=inputs, function=layer)]
    end = getattr(layer, "max_value", None) if kind == "relu" else None
    read = 1 if cls in READ_WHILE_TRAINING else len(inputs)
    operation = Operation(
        name=name,
        kind=kind or "linear",
        layer=layer,
        inputs=inputs[:read],
        while_training=inputs[read:],
        max_value=None if end is None else float(end),
    )
    if kind in COMPUTE and not _is_linear(layer.activation):
        named = f"{name}/activation"
        return [
            operation,
            *_activation_operations(call, layer.activation, named, (name,), problems),
        ]
    return [operation]


def is_fused(operation: Operation) -> bool:
    """Whether an operation is what a layer with a kernel was given as its activation."""
    return operation.kind not in COMPUTE and _KINDS.get(class_name(operation.layer)) in COMPUTE


def _is_linear(activation: Any) -> bool:
    return activation is None or activation is keras.activations.linear


def _activation_operations(
    call: Call, function: Any, name: str, inputs: tuple[str, ...], problems: list[str]
) -> list[Operation]:
    """What an activation does; the last operation has the name."""
    found = _read(function, call.layer, problems)
    if found is not None:
        return _read_operations(call, found, name, inputs, problems)
    return [_function_operation(call.layer, function, name, inputs, problems)]


def _read_operations(
    call: Call, found: Activation, name: str, inputs: tuple[str, ...], problems: list[str]
) -> list[Operation]:
    """What a method's activation does: its function, where it has one, and its rounding."""
    layer = call.layer
    if found.qparams is None:
        return [_function_operation(layer, found.function, name, inputs, problems)]
    if found.function is None:
        return [Quantizer(name=name, layer=layer, inputs=inputs, qparams=found.qparams)]
    before = f"{name}/function"
    rounding = Quantizer(name=name, layer=layer, inputs=(before,), qparams=found.qparams)
    if found.line is not None:
        gain, shift = found.line
        line = affine_layer(call.shape, gain=gain, shift=shift, name=layer.name)
        return [Operation(name=before, kind="batch_norm", layer=line, inputs=inputs), rounding]
    sign = None
    if found.dead_band is not None:
        sign = Sign(dead_band=found.dead_band, scale=found.qparams.scale)
    function = Lookup(name=before, layer=layer, inputs=inputs, function=found.function, sign=sign)
    return [function, rounding]


def _read(activation: Any, layer: keras.layers.Layer, problems: list[str]) -> Activation | None:
    """What a layer, or what it was given as its activation, computes if it is a method's."""
    try:
        return read_activation(activation, layer.name)
    except LoweringError as error:
        problems.append(str(error))
        return Activation(function=keras.activations.linear)  # in place of what is reported


def _function_operation(
    layer: keras.layers.Layer,
    function: Any,
    name: str,
    inputs: tuple[str, ...],
    problems: list[str],
) -> Operation:
    """What an activation does that is no method's."""
    if isinstance(function, functools.partial):
        problems.append(
            f"{layer.name} (activation {function}: it is not saved with the model; write a layer "
            "such as keras.layers.LeakyReLU(0.1), or a function with a name)"
        )
        return Operation(name=name, kind="linear", layer=layer, inputs=inputs)
    if isinstance(function, keras.layers.Layer):
        return _layer_as_activation(function, name, layer, inputs, problems)
    known = {
        keras.activations.linear: ("linear", None),
        keras.activations.relu: ("relu", None),
        keras.activations.softmax: ("softmax", None),
        tf.nn.softmax: ("softmax", None),
    }
    if function in known:
        kind, max_value = known[function]
    elif getattr(function, "__name__", "") == "relu6":
        kind, max_value = "relu", 6.0
    elif hasattr(function, "__name__") and is_pointwise(function):
        return Lookup(name=name, layer=layer, inputs=inputs, function=function)
    else:
        kind, max_value = "linear", None
        named = getattr(function, "__name__", type(function).__name__)
        problems.append(
            f"{layer.name} (activation {named}: a Keras layer, softmax, or a function of one "
            "value is supported)"
        )
    return Operation(name=name, kind=kind, layer=layer, inputs=inputs, max_value=max_value)


def _layer_as_activation(
    activation: keras.layers.Layer,
    name: str,
    layer: keras.layers.Layer,
    inputs: tuple[str, ...],
    problems: list[str],
) -> Operation:
    """What a layer does that was given to another one as its activation."""
    if isinstance(activation, keras.layers.ReLU) and not _is_bent(activation):
        end = activation.max_value
        max_value = None if end is None else float(end)
        return Operation(name=name, kind="relu", layer=layer, inputs=inputs, max_value=max_value)
    if isinstance(activation, keras.layers.Softmax) and activation.axis == -1:
        return Operation(name=name, kind="softmax", layer=layer, inputs=inputs)
    if not is_pointwise(activation):
        problems.append(
            f"{layer.name} (activation {type(activation).__name__}: no function of one value, "
            "rectifier or softmax; put the layer behind it)"
        )
    return Lookup(name=name, layer=layer, inputs=inputs, function=activation)


def _reason(layer: keras.layers.Layer, cls: str, call: Call) -> str:
    """Why a layer of no kind is not said in others."""
    if cls in COMBINED:
        return _NOT_COMBINED
    if meets_batch(call):
        return _BATCH_MET.format(" and ".join(map(str, call.input_shapes)))
    return _NO_PARTS if is_shorthand(layer) else "not supported"


def _unsupported(layer: keras.layers.Layer, cls: str, call: Call) -> str:
    """Why a layer of a supported class is not supported after all; "" if it is."""
    input_shape = (None, *(call.input_shapes or (call.shape,))[0])
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return f"data_format {layer.data_format}; channels_last is supported"
    if call.owner and layer.weights and _channels(input_shape) != _channels(layer.input_shape):
        return (
            f"inputs of shapes {layer.input_shape} and {input_shape}; one number of axes and of "
            "channels is supported"
        )
    if cls in ("Conv1D", "Conv2D") and _slides_over_batches(layer, len(input_shape)):
        return (
            f"a window over inputs of shape {input_shape}; one batch axis in front of images "
            "(height, width, channels), or of sequences, is supported, or a window of one pixel"
        )
    if cls == "Conv2DTranspose" and layer.output_padding is not None:
        return _unsupported_output_padding(layer)
    if cls == "BatchNormalization" and list(layer.axis) != [len(input_shape) - 1]:
        return f"axis {layer.axis}; the last is supported"
    if cls == "Softmax" and layer.axis not in (-1, len(input_shape) - 1):
        return f"axis {layer.axis}; the last is supported"
    if cls == "Concatenate" and layer.axis % len(input_shape) == 0:
        return "axis 0 is the batch; the others are supported"
    if cls in ("UpSampling2D", "Resizing") and layer.interpolation != "nearest":
        return f"interpolation {layer.interpolation}; nearest is supported"
    if cls == "Resizing" and (layer.crop_to_aspect_ratio or any(_growth_left(call))):
        return (
            f"{call.input_shapes[0]} to {call.shape}; sizes that are multiples of the input's, "
            "without crop_to_aspect_ratio, are supported"
        )
    return ""


def _slides_over_batches(layer: keras.layers.Layer, axes: int) -> bool:
    """Whether a convolution has more batch axes than the graph's images have.

    A single one in front of sequences is the height of an image; for pixels all axes are one.
    """
    by_pixels = all(size == 1 for size in (*layer.kernel_size, *layer.strides))
    return axes > 4 and not by_pixels


def _unsupported_output_padding(layer: keras.layers.Layer) -> str:
    if any(rate > 1 for rate in layer.dilation_rate):
        return f"output_padding and dilation_rate {layer.dilation_rate}; one of them is supported"
    if any(taps < stride for taps, stride in zip(layer.kernel_size, layer.strides, strict=True)):
        return (
            f"output_padding with a kernel smaller than the strides {layer.strides}; a kernel_size "
            "of at least the strides is supported"
        )
    return ""


def _channels(shape: Sequence[int | None]) -> tuple[int, int | None]:
    """Number of axes and of channels, all that a layer without a window must know."""
    return len(shape), shape[-1]


def _is_bent(layer: keras.layers.ReLU) -> bool:
    """Whether a ReLU is another function than min(max(x, 0), 6) or max(x, 0)."""
    odd_end = layer.max_value not in (None, 6)
    return bool(layer.negative_slope or layer.threshold or odd_end)


def _growth_left(call: Call) -> list[int]:
    """What remains of height and width when they are divided by those of the input."""
    return [after % size for size, after in zip(call.input_shapes[0][:2], call.shape, strict=False)]

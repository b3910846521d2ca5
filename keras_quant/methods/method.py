"""What a quantization method is: four things that the rest of the package asks it for.

The contract that every method keeps, and that `tests/methods/test_contract.py` holds it to: the
codes and scale that its reader gives of a layer dequantize to exactly the kernel that the layer
computes with in inference, and the QParams of an activation name exactly the values that it puts
out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_quant.graph.ir import Weight
from keras_quant.qparams import QParams
from keras_quant.schemes.scheme import OptionValue

Built = list[tuple[Any, list[np.ndarray]]]
"""Layers with their weights, in the order in which they are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    """The options of a method that has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes fake-quantized layers.

    Attributes:
        wrap: (layer, spec, options) gives the quantized twin of a convolution or a Dense layer,
            with its name and settings, but no activation; the QuantSpec says which numbers its
            kernel may hold. The layer has weights, which are copied into the twin afterwards, by
            their names; variables of the method's own begin with what it makes of them here.
            Raises a SchemeError for numbers that it has no way to hold.
        activation: (name, grid, step, options) gives the layer that puts a tensor on a grid.
        step: (name, grid, options) gives what the activations of one group share, once a group:
            around an addition, a Concatenate or the calls of a layer they have one scale and zero
            point. A learned scale is a variable of it; None where nothing is shared but numbers.
        options: a frozen dataclass of the method's options, each with a default: the `method` of
            a scheme's rule sets them. It may raise a UsageError for values that do not go.
    """

    wrap: Callable[[Any, Any, Any], Any]
    activation: Callable[[str, QParams, Any, Any], Any]
    step: Callable[[str, QParams, Any], Any] = lambda name, grid, options: None
    options: type = NoOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Activation:
    """What an activation computes: a function of one value, and then rounding.

    Attributes:
        qparams: the codes that it rounds to; None where it is a plain function.
        function: of one value, computed in float32 before that; None where rounding is all.
        line: gain and shift, where the function is x * gain + shift as far as the codes reach.
        dead_band: where the function is a sign, times the step of the codes: values from it on
            have sign 1, those down from its negative -1, those between 0. At 0, 0 has sign 1.
    """

    qparams: QParams | None = None
    function: Callable[[Any], Any] | None = None
    line: tuple[float, float] | None = None
    dead_band: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Movable:
    """A layer's variables that may be moved by a little, (channels,) each.

    Attributes:
        bias: is added last; None where nothing may move that.
        gamma: what it is added to is multiplied by it; None likewise.
        kernel: in the Keras layout, of a layer that adds its own bias; where an output channel of
            it is multiplied by a number, the step of its codes is, and they stay. None where that
            does not hold.
    """

    bias: Any = None
    gamma: Any = None
    kernel: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads what quantized layers compute with.

    Attributes:
        stands_for: by the name of each class of layers what they compute: the name of a Keras
            class with a kernel, as in {"QConv2D": "Conv2D"}; or a function (layer, input_shape)
            that gives the layers which compute the same in inference, the last of which has the
            layer's name.
        kernel: (layer) gives its kernel as codes, int16 in the Keras layout of the kernel, with
            a float64 scale that broadcasts to them; None where it is in float.
        bias: (layer) gives the float64 (channels,) values that it rounds its bias to; None where
            it adds its bias as it is.
        activation: (activation, name) gives what an activation computes, which may be a layer, or
            what a layer called `name` was given as `activation=`; None for what is no method's.
        movable: (layer) gives the variables of a layer that stands for others which may be moved
            where the last of these adds them, and those of a twin whose kernel has a step of its
            own; None for what has its own `beta` or `bias` there, and no more.
        write: (layer, weight) makes a twin compute with codes that were found elsewhere, in the
            form that `kernel` gives them in, so that it gives them then; False for what is no
            method's, or has no way to hold them.

    Raises (of each of them):
        LoweringError: values that are no integers times a step, or layers that cannot be said in
            others.
    """

    stands_for: Mapping[str, str | Callable[[Any, Any], Built]]
    kernel: Callable[[Any], Weight | None]
    bias: Callable[[Any], np.ndarray | None] = lambda layer: None
    activation: Callable[[Any, str], Activation | None]
    movable: Callable[[Any], Movable | None] = lambda layer: None
    write: Callable[[Any, Weight], bool] = lambda layer, weight: False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNames:
    """What model files of a method may name, which then loads without --trust.

    None of them may do more than compute: no reading of files, no imports, no evaluation of text.

    Attributes:
        classes: of layers and quantizers.
        functions: of activations.
        calls: what a setting such as activation="quantized_relu(4,2)" may call by its text.
        packages: where Keras finds them.
        objects: gives by name what Keras does not find by itself.
        settle: is called with each model that was loaded, to make it what it was when saved.
        refused: by the name of a class that no file is loaded with what it is, and what to do.
        unfit: by the name of a class why saved weights may not fit it, and what to do.
    """

    classes: frozenset[str]
    functions: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    packages: tuple[str, ...] = ()
    objects: Callable[[], Mapping[str, Any]] = dict
    settle: Callable[[Any], None] = lambda model: None
    refused: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a variable of a method is trained.

    Attributes:
        rate: its learning rate, as a multiple of the run's.
        decays: whether weight decay pulls it to zero, as it does kernels.
        adam: it has an Adam of its own, whatever moves the kernels; then rate is the highest
            learning rate of that, and follows the run's schedule.
        relative: moves are multiplied by what it holds, as if its logarithm were learned: it is
            above 0, and no scale of its layer changes how it is trained.
    """

    rate: float = 1.0
    decays: bool = False
    adam: bool = False
    relative: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A quantization method.

    Attributes:
        tunings: by the last part of the name of each trainable variable that is the method's own
            how it is trained.
        post_training: options, in place of the defaults, for weights that are not trained further.
        real_steps: its activations have steps of any size, also where a scheme, which leaves that
            to the method, says powers of two.
    """

    maker: Maker
    reader: Reader
    files: FileNames
    tunings: Mapping[str, Tuning] = field(default_factory=dict)
    post_training: tuple[tuple[str, OptionValue], ...] = ()
    real_steps: bool = False

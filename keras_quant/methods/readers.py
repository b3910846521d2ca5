"""What a layer computes with, whichever method made it; and what may stand in its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from keras_quant.errors import MissingDependencyError
from keras_quant.graph.ir import Weight
from keras_quant.methods import METHODS, load_method
from keras_quant.methods.layers import FixedGrid, variable_name
from keras_quant.methods.method import Activation, Built, FileNames, Method, Movable, Tuning
from keras_quant.tf import keras

T = TypeVar("T")


def all_methods() -> Iterator[Method]:
    """The methods of METHODS whose packages are installed: no layer is another's."""
    for name in METHODS:
        try:
            yield load_method(name)
        except MissingDependencyError:
            continue


def class_name(layer: Any) -> str:
    """The Keras class that a layer computes: its own, or that of which it is a quantized twin."""
    found = _stands_for(layer)
    return found if isinstance(found, str) else type(layer).__name__


def parts_maker(layer: Any) -> Callable[[Any, Any], Built] | None:
    """Gives the function that gives the layers a method's layer stands for, see `Reader`."""
    found = _stands_for(layer)
    return None if isinstance(found, str) else found


def _stands_for(layer: Any) -> str | Callable[[Any, Any], Built] | None:
    name = type(layer).__name__
    return next(
        (m.reader.stands_for[name] for m in all_methods() if name in m.reader.stands_for), None
    )


def is_quantized(layer: Any) -> bool:
    """Whether a layer is a method's twin of one with a kernel."""
    return class_name(layer) != type(layer).__name__


def read_kernel(layer: Any) -> Weight | None:
    """Reads a layer's kernel as codes.

    Returns: int16 codes in the Keras layout of the kernel, and a float64 scale that broadcasts to
        them; None where the kernel is in float.
    Raises:
        LoweringError: the kernel's values are no integers times a step.
    """
    return _first(lambda method: method.reader.kernel(layer))


def write_kernel(layer: Any, weight: Weight) -> bool:
    """Makes a quantized layer compute with given codes and scales.

    Args:
        weight: as `read_kernel` gives it, of codes that the layer's bits allow.
    Returns: whether it does; else it stays as it is.
    """
    return any(method.reader.write(layer, weight) for method in all_methods())


def read_bias(layer: Any) -> np.ndarray | None:
    """Reads what a layer rounds its bias to, float64 (channels,); None where it does not.

    Raises:
        LoweringError: values that cannot be lowered.
    """
    return _first(lambda method: method.reader.bias(layer))


def read_movable(layer: Any) -> Movable:
    """Finds the variables of a layer that may be moved: what it adds last, and its gain."""
    found = _first(lambda method: method.reader.movable(layer))
    if found is not None:
        return found
    if isinstance(layer, keras.layers.BatchNormalization):
        return Movable(bias=layer.beta, gamma=layer.gamma)
    return Movable(bias=getattr(layer, "bias", None) if read_bias(layer) is None else None)


def read_activation(activation: Any, name: str) -> Activation | None:
    """Reads what a layer, or what a layer was given as its activation, computes.

    Args:
        name: of the layer, for errors.
    Returns: None for what is no method's.
    Raises:
        LoweringError: a quantizer without a fixed uniform grid.
    """
    if isinstance(activation, FixedGrid):
        return Activation(qparams=activation.qparams)
    return _first(lambda method: method.reader.activation(activation, name))


def tuned_variables(layers: Iterable[Any]) -> list[tuple[Any, Tuning]]:
    """Lists the trainable variables that methods own in some layers, with how they are trained."""
    found = {}
    for layer in layers:
        for method in all_methods():
            if type(layer).__name__ in method.files.classes:
                for variable in layer.trainable_weights:
                    tuning = method.tunings.get(variable_name(variable))
                    if tuning is not None:  # once, where a group shares it
                        found[variable._unique_id] = (variable, tuning)
    return list(found.values())


def file_names() -> FileNames:
    """What files of all methods together may name."""
    files = [method.files for method in all_methods()]

    def objects() -> Mapping[str, Any]:
        return {name: value for one in files for name, value in one.objects().items()}

    def settle(model: Any) -> None:
        for one in files:
            one.settle(model)

    return FileNames(
        classes=frozenset[str]().union(*(one.classes for one in files)),
        functions=frozenset[str]().union(*(one.functions for one in files)),
        calls=frozenset[str]().union(*(one.calls for one in files)),
        packages=tuple(package for one in files for package in one.packages),
        objects=objects,
        settle=settle,
        refused={name: why for one in files for name, why in one.refused.items()},
        unfit={name: why for one in files for name, why in one.unfit.items()},
    )


def _first(read: Callable[[Method], T | None]) -> T | None:
    """The answer of the first method that has one."""
    answers = map(read, all_methods())
    return next((answer for answer in answers if answer is not None), None)

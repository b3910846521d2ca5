"""A file of Keras 3 beside what is made of it here: the same values, layer by layer, or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.diagnose.reference import KerasLayers
from keras_quant.errors import ModelError, UsageError
from keras_quant.model.files import keras_version_of, load_model
from keras_quant.runners.child import ChildRunner

TOLERANCE = 1e-5
"""The largest difference, as a share of the layer's largest value. Two sums of float32 in another
order differ by less: 1e-6 for all models of tests/model/keras3_models.py."""

IMAGES = 4
_RUNNER = "keras_quant.diagnose.in_keras3:Keras3Layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifference:
    """How far a layer is from Keras 3's.

    Attributes:
        name: of the layer, in both.
        kind: its class here.
        difference: largest |ours - Keras 3's| over the largest |Keras 3's|; infinite where shapes
            are not the same, or a value is not finite.
    """

    name: str
    kind: str
    difference: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What comparing a file with its conversion found.

    Attributes:
        file: of Keras 3.
        keras: the version that ran it.
        tolerance: up to which layers are the same.
        layers: those that both have, in the order in which they run.
        unmatched: layers of Keras 3 that have no layer of their name here.
        first_different: the first of `layers` that is not the same; None where all are.
    """

    file: Path
    keras: str
    tolerance: float
    layers: tuple[LayerDifference, ...]
    unmatched: tuple[str, ...]
    first_different: str | None


def check_conversion(file: Path, *, trust: bool = False) -> Conversion:
    """Runs random inputs of 0 to 1 through a file of Keras 3, by Keras 3 and as it is read here.

    Args:
        trust: load a file that holds code; Keras 3 itself still refuses to run it.
    Raises:
        UsageError: the file is none of Keras 3, or takes inputs of any size.
        ModelError: it cannot be loaded, here or by Keras 3.
    """
    model = load_model(file, trust=trust)
    version = keras_version_of(file)
    if not version.startswith("3."):
        raise UsageError(
            f"{file}: was written by Keras {version}, and is read as it is: nothing is converted. "
            "Name a .tflite or .onnx file, with --float for this one"
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if len(shapes) != 1:
        raise ModelError(f"{file}: has {len(shapes)} inputs; models of one are compared")
    if None in shapes[0]:
        raise UsageError(f"{file}: takes inputs of any size, {shapes[0]}, where one is needed")
    images = np.random.default_rng(0).random((IMAGES, *shapes[0]), np.float32)
    runner = ChildRunner(_RUNNER, file)
    theirs = runner.run({"0": images})
    reference = KerasLayers(model)
    ours = reference.values(images)
    found = tuple(
        LayerDifference(
            name=layer.name,
            kind=layer.kind,
            difference=_difference(ours[layer.name], theirs[layer.name]),
        )
        for layer in reference.layers
        if layer.name in theirs
    )
    different = (one.name for one in found if not one.difference <= TOLERANCE)
    return Conversion(
        file=file,
        keras=runner.info.versions["keras"],
        tolerance=TOLERANCE,
        layers=found,
        unmatched=tuple(name for name in theirs if name not in ours),
        first_different=next(different, None),
    )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    largest = float(np.abs(theirs).max(initial=0))
    apart = float(np.abs(ours - theirs).max(initial=0))
    return apart / largest if largest else apart

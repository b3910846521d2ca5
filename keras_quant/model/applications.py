"""Models of keras.applications by name, and weights that lie in a file of their own.

Nothing is downloaded: weights come from a file that the user has, or are random.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py

from keras_quant.errors import ModelError, UsageError
from keras_quant.files import check_is_file
from keras_quant.model.bounds import allowed_bytes
from keras_quant.model.hard_swish import with_hard_swish
from keras_quant.model.hdf5 import content_of
from keras_quant.preprocessing import PREPROCESSINGS, Preprocessing
from keras_quant.tf import keras

CLASSES = 1000
"""Those of ImageNet, where neither the images nor the user say how many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A model of keras.applications.

    Attributes:
        preprocess: what becomes of pixels in front of it, see preprocessing.PREPROCESSINGS; "raw"
            where its first layers do that.
        size: pixels of the height and width that it was made for, to which images of a folder are
            resized.
        min_size: fewest pixels of an image's height and width, as its function says.
        has_alpha: whether it takes a width multiplier.
    """

    preprocess: str
    size: int = 224
    min_size: int = 32
    has_alpha: bool = False


APPLICATIONS: dict[str, Application] = {
    "MobileNet": Application(preprocess="tf", has_alpha=True),
    "MobileNetV2": Application(preprocess="tf", has_alpha=True),
    "MobileNetV3Small": Application(preprocess="raw", has_alpha=True),
    "MobileNetV3Large": Application(preprocess="raw", has_alpha=True),
    **{
        f"EfficientNetB{n}": Application(preprocess="raw", size=size)
        for n, size in enumerate((224, 240, 260, 300, 380, 456, 528, 600))
    },
    **{
        f"EfficientNetV2B{n}": Application(preprocess="raw", size=size)
        for n, size in enumerate((224, 240, 260, 300))
    },
    "ResNet50": Application(preprocess="caffe"),
    "ResNet101": Application(preprocess="caffe"),
    "ResNet50V2": Application(preprocess="tf"),
    "DenseNet121": Application(preprocess="torch"),
    "DenseNet169": Application(preprocess="torch"),
    "InceptionV3": Application(preprocess="tf", size=299, min_size=75),
    "Xception": Application(preprocess="tf", size=299, min_size=71),
    "VGG16": Application(preprocess="caffe"),
    "VGG19": Application(preprocess="caffe"),
}


def preprocessing_of(name: str) -> Preprocessing:
    """What becomes of pixels in front of a model of APPLICATIONS."""
    return PREPROCESSINGS[APPLICATIONS[name].preprocess]


def build_application(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, int | float | str],
    weights: Path | None = None,
) -> keras.Model:
    """Builds a model of keras.applications, from images to logits.

    Args:
        name: of APPLICATIONS.
        num_classes: of the images; 0 for unknown.
        options: "classes"; "alpha" where the model has it.
        weights: a file of weights alone, see `load_weights`; None for random ones.
    Raises:
        UsageError: an option is not known, or is no number that the model takes.
        ModelError: the images are too small, it cannot be built, or the weights are others.
    """
    known = APPLICATIONS[name]
    allowed = ("classes", *(("alpha",) if known.has_alpha else ()))
    others = sorted(options.keys() - set(allowed))
    problems = [f"has no option {key}; it has {', '.join(allowed)}" for key in others]
    classes = options.get("classes", num_classes or CLASSES)
    if not isinstance(classes, int) or classes < 2:
        problems.append(f"classes is {classes}; a whole number of 2 or more is allowed")
    if problems:
        raise UsageError("\n".join(f"model {name}: {problem}" for problem in problems))
    if len(input_shape) != 3 or min(input_shape[:2]) < known.min_size:
        raise ModelError(
            f"model {name} needs images of at least {known.min_size}x{known.min_size} pixels; "
            f"these are {'x'.join(map(str, input_shape))}"
        )
    settings = {key: value for key, value in options.items() if key != "classes"}
    try:
        model = getattr(keras.applications, name)(
            weights=None,
            input_shape=input_shape,
            classes=classes,
            classifier_activation=None,
            **settings,
        )
    except (ValueError, TypeError) as error:
        raise ModelError(f"model {name} cannot be built: {error}") from error
    if weights is not None:
        load_weights(model, weights)
    return with_hard_swish(model)


def load_weights(model: keras.Model, path: Path) -> None:
    """Sets a model's weights from a file of weights alone: .h5 of Keras 2, .weights.h5 of either.

    Whole models in .h5 files are taken too, for their weights.

    Raises:
        ModelError: there is no such file, it is damaged or leads out of itself, or its weights are
            not those of this model.
    """
    check_is_file(path, ModelError, give="give an .h5 or .weights.h5 file")
    if not h5py.is_hdf5(path):
        raise ModelError(
            f"{path}: is no HDF5 file; weights are read from .h5 and .weights.h5 files"
        )
    try:
        with h5py.File(path) as file:
            content = content_of(file)
            is_by_layers = "layers" in file or "_layer_checkpoint_dependencies" in file
    except Exception as error:  # broken bytes can end in any error of h5py
        raise ModelError(f"{path}: not a whole file of weights ({error}). Copy it again") from error
    if content.outside:
        raise ModelError(
            f"{path}: not loaded, since bytes of other files would become its weights: "
            f"{'; '.join(content.outside[:3])}"
        )
    if content.claimed_bytes > allowed_bytes(path.stat().st_size):
        raise ModelError(f"{path}: not loaded: it unpacks to {content.claimed_bytes:,} bytes")
    with tempfile.TemporaryDirectory() as folder:
        # Keras goes by the ending, and not by what is in the file.
        link = Path(folder) / ("model.weights.h5" if is_by_layers else "model.h5")
        link.symlink_to(path.resolve())
        try:
            model.load_weights(os.fspath(link))
        except Exception as error:  # Keras raises whatever its reading ends in
            text = " ".join(str(error).split())
            raise ModelError(
                f"{path}: its weights are not those of {model.name}, of {model.count_params():,} "
                f"numbers and an output of {model.output_shape}: {text[:300]}. A model of "
                "keras.applications takes --option classes=N"
            ) from error

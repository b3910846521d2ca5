"""What a dataset is: three splits kept apart, and what a model is given of their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_quant.errors import DataError
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing

CROP_PADDING = 4  # pixels on each side, He et al. 2016, section 4.2
NO_LABEL = -1  # in place of the class number of an image that has none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Images and labels in equal order.

    Attributes:
        x: uint8 in [0, 255] or float32 of any range, (images, height, width, channels); or
            (vectors, features).
        y: int32 class numbers, (images,), each in [0, num_classes); NO_LABEL where the dataset has
            no labels.
        clean: what the images were before noise was added, as x; None where none was.
    """

    x: np.ndarray
    y: np.ndarray
    clean: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def spread(self, most: int) -> Split:
        """So many of them at even distances; all where there are fewer."""
        count = min(most, len(self))
        return self.at(np.arange(count) * len(self) // max(1, count))

    def at(self, rows: slice | np.ndarray) -> Split:
        """Those in some places."""
        clean = None if self.clean is None else np.asarray(self.clean[rows])
        return Split(x=np.asarray(self.x[rows]), y=self.y[rows], clean=clean)

    @property
    def wanted(self) -> np.ndarray:
        """What images are to become where images are the answer: clean, or themselves."""
        return self.x if self.clean is None else self.clean


def drawn_again(split: Split, *, seed: int) -> Split:
    """As many images, drawn with replacement: some come twice, some not at all.

    The bootstrap of bagging, Breiman, "Bagging predictors", 1996.
    """
    places = np.sort(np.random.default_rng(seed).integers(len(split), size=len(split)))
    return split.at(places)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Checked data, ready to train on. Images stay in the dtype of their file.

    Attributes:
        name: name or path that the user gave.
        train: what weights are trained on, and scales fitted to.
        validation: taken from the training images; what epochs and methods are chosen by.
        test: read once, at the end.
        class_names: one a class; position is the class number. () for images without labels.
        source: where the arrays came from, for the record of a run.
        augment: whether random flips and crops are the default while training.
        crop_padding: pixels that crops may reach beyond each side.
        preprocessing: what becomes of pixels; None for float images whose range nobody declared,
            which are given to the model as they are in any case.
        notes: what was made of the files that is not usual, a text each.
        elbo: outputs are a variational autoencoder's, in place of classes or images: what they are
            short of the images' likelihood, the negative ELBO, is what they are judged by. Images
            of 0 to 1 are probabilities of bits for it.

    Raises:
        DataError: images are pixels, and nothing says what they become; or they are no
            probabilities and have to be.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    source: str
    augment: bool = False
    crop_padding: int = CROP_PADDING
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    elbo: bool = False

    def __post_init__(self) -> None:
        if self.has_pixels and self.preprocessing is None:
            raise DataError(
                f"dataset {self.name}: images are 8-bit pixels, and nothing says what they become: "
                "give a preprocessing, as UNIT of keras_quant.preprocessing for 0 to 1"
            )
        low, high = self._range if self.elbo else (0.0, 1.0)
        if low < 0 or high > 1:
            raise DataError(
                f"dataset {self.name}: images are of {low:.4g} to {high:.4g}; for an ELBO 0 to 1 "
                "is needed, as --preprocess unit makes of pixels"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    @property
    def has_labels(self) -> bool:
        """Whether anything says what is in the images."""
        return bool(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels) of each image; (features,) of each vector."""
        shape: tuple[int, ...] = self.train.x.shape[1:]
        return shape

    @property
    def has_pixels(self) -> bool:
        """Whether images are 8-bit pixels; else they are floats."""
        return self.train.x.dtype == np.uint8

    @property
    def span(self) -> float:
        """Distance of the least and the greatest value of an image, as the model takes it."""
        low, high = self._range
        return high - low

    @property
    def _range(self) -> tuple[float, float]:
        if self.preprocessing is not None:
            return self.preprocessing.range
        return float(self.test.x.min()), float(self.test.x.max())

    def reals(self, x: np.ndarray) -> np.ndarray:
        """Gives some of the images as the model takes them, see `pixels.normalize`."""
        return normalize(x, self.preprocessing)

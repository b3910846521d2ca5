"""Batches for Keras: uint8 in memory, float32 a batch at a time."""

from __future__ import annotations

import numpy as np

from keras_quant.data.dataset import Dataset
from keras_quant.errors import UsageError
from keras_quant.pixels import constants
from keras_quant.preprocessing import Preprocessing
from keras_quant.tf import tf

PARALLEL_CALLS = 4
"""Batches that are made at once: making one takes a few percent of a training step."""
PREFETCHED = 4
"""Batches that lie ready."""


class TrainBatches:
    """Shuffled training batches, epoch by epoch.

    Order and augmentation are a function of (seed, epoch) alone, drawn by NumPy: training
    resumed at an epoch sees the batches that it would have seen. The last, partial batch is
    dropped (other images fall out each epoch), so that all batches have one shape; a set
    smaller than batch_size is one batch.

    Attributes:
        batch_size: of all batches.

    Args:
        augment: flip half of the images left to right, and crop each at random out of its
            copy padded by the dataset's `crop_padding` zeros (He et al. 2016, section 4.2).
        clean: give clean images too, flipped and cropped alike; the data have them.

    Raises:
        UsageError: vectors cannot be augmented.
    """

    def __init__(
        self, dataset: Dataset, *, batch_size: int, seed: int, augment: bool, clean: bool = False
    ) -> None:
        self._input_shape = dataset.input_shape
        if augment and len(self._input_shape) != 3:
            raise UsageError(
                f"dataset {dataset.name} has vectors of {self._input_shape[0]} features, of which "
                "nothing can be flipped or cropped: give --no-augment"
            )
        self._count = len(dataset.train)
        self.batch_size = min(batch_size, self._count)
        self._seed, self._augment = seed, augment
        self._padding = dataset.crop_padding
        self._preprocessing = dataset.preprocessing
        # Kept for all epochs: what a dataset's function captures is not freed with it.
        with tf.device("/CPU:0"):
            self._images, self._labels = tf.constant(dataset.train.x), tf.constant(dataset.train.y)
            self._clean = tf.constant(dataset.train.clean) if clean else None

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches."""
        return steps_per_epoch(self._count, self.batch_size)

    def __call__(self, epoch: int) -> tf.data.Dataset:
        """Gives (float32 (batch, height, width, channels), int32 (batch,)) batches.

        Clean images are the third of three, as the first.
        """
        rng = np.random.default_rng([self._seed, epoch])
        picks: tuple[np.ndarray, ...] = (rng.permutation(self._count),)
        if self._augment:
            picks += _random_windows(rng, self._count, self._input_shape, self._padding)
        with tf.device("/CPU:0"):
            batches = tf.data.Dataset.from_tensor_slices(picks)
            batches = batches.batch(self.batch_size, drop_remainder=True)
        batches = batches.map(self._load, num_parallel_calls=PARALLEL_CALLS)
        return _to_float(batches, self._preprocessing).with_options(_untuned())

    def _load(self, order: tf.Tensor, *window: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = (self._images,) if self._clean is None else (self._images, self._clean)
        x, *clean = (tf.gather(images, order) for images in parts)
        if window:
            x, *clean = (_crop(images, *window, padding=self._padding) for images in (x, *clean))
        return x, tf.gather(self._labels, order), *clean


def steps_per_epoch(images: int, batch_size: int) -> int:
    """How many whole batches images are; one where there are fewer than that."""
    return images // min(batch_size, images)


def _random_windows(
    rng: np.random.Generator, count: int, input_shape: tuple[int, ...], padding: int
) -> tuple[np.ndarray, np.ndarray]:
    """Source rows (count, height) and columns (count, width) within the padded images.

    A flip is a window whose columns run backwards.
    """
    height, width, _ = input_shape
    shifts = rng.integers(0, 2 * padding + 1, size=(2, count, 1), dtype=np.int32)
    flips = rng.random((count, 1)) < 0.5
    columns = np.arange(width, dtype=np.int32)
    return (
        shifts[0] + np.arange(height, dtype=np.int32),
        shifts[1] + np.where(flips, columns[::-1], columns),
    )


def _crop(x: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, *, padding: int) -> tf.Tensor:
    margin = (padding, padding)
    x = tf.pad(x, ((0, 0), margin, margin, (0, 0)))
    return tf.gather(tf.gather(x, rows, batch_dims=1), columns, axis=2, batch_dims=1)


def _to_float(batches: tf.data.Dataset, preprocessing: Preprocessing | None) -> tf.data.Dataset:
    """What `pixels.normalize` does, to the last bit."""
    if batches.element_spec[0].dtype == tf.uint8:
        assert preprocessing is not None, "uint8 images have a preprocessing"
        mean, std = constants(preprocessing)

        # As exact as normalize only within tf.data: in a tf.function, Grappler multiplies by
        # the reciprocal of a constant divisor, which rounds 126 of the 256 pixels differently.
        def reals(x: tf.Tensor) -> tf.Tensor:
            x = tf.cast(x[..., ::-1] if preprocessing.order == "bgr" else x, tf.float32)
            return (x - mean if mean.any() else x) / std

        def scaled(x: tf.Tensor, y: tf.Tensor, *clean: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return reals(x), y, *map(reals, clean)

        batches = batches.map(scaled, num_parallel_calls=PARALLEL_CALLS)
    return batches.prefetch(PREFETCHED)


def _untuned() -> tf.data.Options:
    """No tuner of parallel calls beside the batches, also none of what is made of them.

    Where nothing wakes it, TensorFlow 2.21's sleeps for up to a minute, and the end of an epoch
    waits for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return options

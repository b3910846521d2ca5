"""How files of Keras models are called."""

from __future__ import annotations

from pathlib import Path

# Up to TensorFlow 2.11, tf.keras wrote HDF5 under each of these endings.
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


def is_keras_file(path: Path) -> bool:
    """Whether a path is named as a Keras model is, in letters of any case."""
    return path.suffix.lower() in KERAS_SUFFIXES

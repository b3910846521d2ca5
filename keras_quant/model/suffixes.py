"""How Keras models lie on a disk: files by their endings, and SavedModel folders."""

from __future__ import annotations

from pathlib import Path

# Up to TensorFlow 2.11, tf.keras wrote HDF5 under each of these endings.
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

MODEL_KINDS = f"{', '.join(KERAS_SUFFIXES)} file or SavedModel folder"
"""For messages: what is read as a Keras model."""

SAVED_MODEL = "saved_model.pb"
"""The file that makes a folder a SavedModel."""


def is_keras_model(path: Path) -> bool:
    """Whether a path is named as a Keras model is, in letters of any case, or a SavedModel."""
    return path.suffix.lower() in KERAS_SUFFIXES or is_saved_model(path)


def is_saved_model(path: Path) -> bool:
    """Whether a path is a folder that TensorFlow's SavedModel format made."""
    return (path / SAVED_MODEL).is_file()

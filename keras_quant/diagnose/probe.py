"""Opens a file twice in child processes: to list its operators, and to run them one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keras_quant.diagnose.contents import FileContents, TensorContents
from keras_quant.errors import UsageError
from keras_quant.runners.child import Child, ChildRunner, limits_for

_READERS = {
    ".tflite": ("keras_quant.diagnose.in_tflite", "TFLiteTensors"),
    ".onnx": ("keras_quant.diagnose.in_onnx", "OnnxTensors"),
}
SUFFIXES = tuple(_READERS)


def open_probe(file: Path) -> tuple[FileContents, ChildRunner]:
    """Gives what a file holds, and what runs it so that each operator's values are among its
    outputs, by the keys of the contents.

    Raises:
        UsageError: the file's name has another ending.
        ModelError: it cannot be read or run.
    """
    if file.suffix not in _READERS:
        raise UsageError(f"{file}: a {' or '.join(SUFFIXES)} file is looked at")
    return contents_of(file), runner_of(file)


def contents_of(file: Path) -> FileContents:
    """Gives what a file of SUFFIXES holds. Raises: ModelError: it cannot be read."""
    module, _ = _READERS[file.suffix]
    with Child(file, limits_for(file)) as child:
        return child.call(f"{module}:describe", FileContents)


def runner_of(file: Path) -> ChildRunner:
    """Gives what runs a file of SUFFIXES, see `open_probe`. Raises: ModelError: it cannot be."""
    module, runner = _READERS[file.suffix]
    return ChildRunner(f"{module}:{runner}", file)


def reals(values: np.ndarray, tensor: TensorContents) -> np.ndarray:
    """What a tensor's values stand for, float32 of their shape."""
    if tensor.scale is None or values.dtype.kind == "f":
        return values.astype(np.float32)
    levels = values.astype(np.int64) - tensor.zero_point
    return (levels * tensor.scale).astype(np.float32)

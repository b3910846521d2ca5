"""Models that a user's own Python file builds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_quant.errors import KerasQuantError, ModelError, UsageError, close_names

if TYPE_CHECKING:
    from keras_quant.tf import keras


def build_from_file(reference: str, input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Runs a user's file and calls its function as FUNCTION(input_shape, num_classes).

    Args:
        reference: "FILE.py:FUNCTION".
        input_shape: of one input: (height, width, channels), or (features,).
    Returns: the model of float32 images; its outputs are the caller's to judge.
    Raises:
        UsageError: the reference is not FILE.py:FUNCTION.
        ModelError: there is no such file or function, it fails, or it returns something else
            than a Keras 2 model of these images, or one whose layers cannot be followed.
    """
    file, _, function = reference.rpartition(":")
    if not (file.endswith(".py") and function.isidentifier()):
        raise UsageError(f"'{reference}' is no model of your own; give FILE.py:FUNCTION")
    # Before the file runs: it may import TensorFlow itself.
    from keras_quant.model.inputs import with_input_shape
    from keras_quant.tf import keras

    model = _call(reference, _get_function(Path(file), function), input_shape, num_classes)
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"{reference} returned {type(model).__module__}.{type(model).__name__}; a Keras 2 "
            "model is needed: from keras_quant.tf import keras"
        )
    model = with_input_shape(model, input_shape)
    if len(model.inputs) > 1:
        raise ModelError(
            f"{reference} has {len(model.inputs)} inputs; kq trains one. Train others with Keras: "
            "keras_quant.plan, collect and quantize quantize them, lower_exactly lowers them"
        )
    return model


def _call(reference: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the user's code; whatever it raises is the user's to mend."""
    try:
        return function(*arguments)
    except (KerasQuantError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        raise ModelError(
            f"{reference} called sys.exit({'' if error.code is None else repr(error.code)}); kq "
            "needs the model that it returns. Put what is meant for a script under "
            "if __name__ == '__main__':"
        ) from error
    except BaseException as error:  # one of its own classes may be no Exception
        raise ModelError(f"{reference} failed: {type(error).__name__}: {error}") from error


def _get_function(file: Path, name: str) -> Callable[..., Any]:
    if not file.is_file():
        raise ModelError(f"no file {file}")
    functions: dict[str, Callable[..., Any]] = {
        key: value
        for key, value in vars(_run_file(file)).items()
        if callable(value) and not key.startswith("_")
    }
    if name not in functions:
        raise ModelError(
            f"{file} has no function '{name}'{close_names(name, functions)}; it has "
            f"{', '.join(functions) or 'none'}"
        )
    return functions[name]


def _run_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"kq_user_model_{file.stem}", file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    _call(str(file), spec.loader.exec_module, module)
    return module

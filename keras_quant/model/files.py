"""Keras models in files: written whole, read without running code from the file."""

from __future__ import annotations

import functools
import json
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keras_quant.errors import ModelError, warn
from keras_quant.files import atomic_path, check_is_file
from keras_quant.methods.readers import file_names
from keras_quant.model.bounds import (
    CONFIG_BYTES,
    allowed_bytes,
    config_excesses,
    limited_variables,
    output_excesses,
)
from keras_quant.model.calls import endless_calls
from keras_quant.model.hdf5 import content_of
from keras_quant.model.keras3_config import augmentations, to_keras2, weight_groups
from keras_quant.model.pointwise import register_functions
from keras_quant.model.safety import archive_problems, config_problems, unfinished
from keras_quant.model.saved_model import (
    METADATA,
    as_config,
    link_problems,
    read_metadata,
    set_saved_weights,
    stored_numbers,
)
from keras_quant.model.suffixes import KERAS_SUFFIXES, MODEL_KINDS, is_keras_model, is_saved_model
from keras_quant.model.topology import layers_by_name
from keras_quant.tf import keras

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_TOLD = 10  # findings in one message
# Of the calls that Python allows, those that are not one a layer: a command's, and Keras' around
# them. With the usual 1,000, 954 layers in a row were loaded by a script, and 1,104 were not.
_OWN_CALLS = 150

register_functions()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Saved:
    """A file's description of its model.

    Attributes:
        config: the model's class and settings, without those of training.
        keras_version: of the Keras that wrote the file.
        elements: how many numbers its weights have, together.
        dangers: what beside its configuration could run code, one sentence each.
    """

    config: dict[str, Any]
    keras_version: str
    elements: int
    dangers: tuple[str, ...] = ()

    @property
    def is_keras3(self) -> bool:
        return self.keras_version.startswith("3.")


def save_model(model: keras.Model, path: str | Path) -> None:
    """Writes a functional or sequential model, without optimizer state, as a .keras file.

    Raises:
        ModelError: path does not end with .keras, or the model is subclassed or not built.
        FileError: the file cannot be written; an earlier one of that name is left as it was.
    """
    if Path(path).suffix != ".keras":
        raise ModelError(f"{path}: a model is saved as .keras; give the file that ending")
    if not getattr(model, "inputs", None):
        raise ModelError(
            f"{path}: model {model.name} has no fixed inputs; only functional models, and "
            "sequential ones that were built, can be saved"
        )
    inference = keras.Model(model.inputs, model.outputs, name=model.name)
    with atomic_path(path) as temporary, _quantizers_taken_for_constraints():
        inference.save(temporary)


def keras_version_of(path: Path) -> str:
    """The version of the Keras that wrote a file, as it says; "2" where it says nothing.

    Raises:
        ModelError: the file is broken.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _read(_lay_out(path, Path(folder))).keras_version
    except Exception as error:
        raise ModelError(f"{path}: not a whole Keras model file ({_reason(error)})") from error


def load_model(path: str | Path, *, trust: bool = False) -> keras.Model:
    """Reads a Keras file (of Keras 2 or 3; zip or HDF5) or a SavedModel that Keras 2 wrote.

    Args:
        trust: load also what could run code from the file: Lambda layers, custom classes.
    Returns: an uncompiled model; it answers bit for bit as the saved one did.
    Raises:
        ModelError: there is no such file, it is broken or incomplete, it needs trust, or its
            layers are not known here, or too many in a row.
    """
    path = Path(path)
    _check_path(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            content = _lay_out(path, Path(folder))
            saved = _read(content)
        except _RefusalError as error:
            raise ModelError(f"{path}: {error}") from error
        except Exception as error:  # broken bytes can end in any error of zipfile, json or h5py
            raise ModelError(
                f"{path}: not a whole Keras model file ({_reason(error)}). Copy or save it again."
            ) from error
        return _rebuild(path, content, saved, trust=trust)


def _read(content: Path) -> _Saved:
    if content.is_dir():
        return _read_saved_model(content)
    return _read_h5(content) if h5py.is_hdf5(content) else _read_zip(content)


class _RefusalError(Exception):
    """What a file holds is not read; says why, without the file's name."""


@contextmanager
def _quantizers_taken_for_constraints() -> Iterator[None]:
    """Silences what Keras says when QKeras has it save a quantizer, which it does well."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", r"The `keras\.constraints\.serialize\(\)`.*\.quantizers\."
        )
        yield


def _check_path(path: Path) -> None:
    if not is_saved_model(path):
        check_is_file(path, ModelError, give=f"give a {MODEL_KINDS}")
    if not is_keras_model(path):
        raise ModelError(
            f"{path}: ends with {path.suffix!r}; {', '.join(KERAS_SUFFIXES)} files are loaded"
        )


def _lay_out(path: Path, folder: Path) -> Path:
    """Puts a file, or a link to it, into a folder, under the ending that Keras goes by.

    Compressed members are unpacked: HDF5 is read to and fro, which takes forever in them.
    """
    if path.is_dir():
        return path
    if h5py.is_hdf5(path):
        return _link(path, folder / "model.h5")
    with zipfile.ZipFile(path) as packed:
        members = packed.infolist()
        _check_unpacked(path, sum(member.file_size for member in members))
        if all(member.compress_type == zipfile.ZIP_STORED for member in members):
            return _link(path, folder / "model.keras")
        with zipfile.ZipFile(folder / "model.keras", "w") as copy:
            for name in dict.fromkeys(packed.namelist()):
                with packed.open(name) as source, copy.open(name, "w") as target:
                    shutil.copyfileobj(source, target)
    return folder / "model.keras"


def _link(path: Path, link: Path) -> Path:
    link.symlink_to(path.resolve())
    return link


def _read_zip(path: Path) -> _Saved:
    with zipfile.ZipFile(path) as archive:
        missing = {_CONFIG, _METADATA, _WEIGHTS} - set(archive.namelist())
        if missing:
            raise _RefusalError(f"no Keras model file: it lacks {', '.join(sorted(missing))}")
        with h5py.File(archive.open(_WEIGHTS)) as weights:
            elements = _count_elements(path, weights)
        return _Saved(
            config=_parse_config(archive.read(_CONFIG)),
            keras_version=str(json.loads(archive.read(_METADATA))["keras_version"]),
            elements=elements,
            dangers=tuple(archive_problems(archive)),
        )


def _read_h5(path: Path) -> _Saved:
    with h5py.File(path) as file:
        elements = _count_elements(path, file)
        if "model_config" not in file.attrs or "model_weights" not in file:
            raise _RefusalError(
                "it lacks model_config or model_weights; weights alone are no model"
            )
        return _Saved(
            config=_parse_config(file.attrs["model_config"]),
            keras_version=str(file.attrs.get("keras_version", "2")),
            elements=elements,
        )


def _read_saved_model(folder: Path) -> _Saved:
    links = link_problems(folder)
    if links:
        raise _RefusalError(
            f"not loaded, since it may read other files: {_listed(links)}. Copy the folder whole."
        )
    _check_config_bytes((folder / METADATA).stat().st_size if (folder / METADATA).exists() else 0)
    metadata, problem = read_metadata(folder)
    if problem:
        raise _RefusalError(f"{problem}. Save the model itself: model.save('model.keras')")
    return _Saved(
        config=_parse_config(metadata, of=as_config),
        keras_version="2",
        elements=stored_numbers(folder),
    )


def _parse_config(
    text: str | bytes, *, of: Callable[[Any], dict[str, Any]] = lambda config: config
) -> dict[str, Any]:
    """A model's class and settings, within bounds; of: gives them of what the text says."""
    _check_config_bytes(len(text))
    config = of(json.loads(text))
    _check(config_excesses(config, file_names().calls))
    plain: dict[str, Any] = _without_training(config)
    return plain


def _check_config_bytes(size: int) -> None:
    if size > CONFIG_BYTES:
        raise _RefusalError(f"its configuration has {size:,} bytes; {CONFIG_BYTES:,} are allowed")


def _count_elements(path: Path, weights: h5py.File) -> int:
    """How many numbers the weights have, all of which are in the file itself."""
    content = content_of(weights)
    if content.outside:
        raise _RefusalError(
            f"not loaded, since bytes of other files would become its weights: "
            f"{_listed(content.outside)}. Save the model whole, in one file."
        )
    _check_unpacked(path, content.claimed_bytes)
    return content.elements


def _check_unpacked(path: Path, unpacked: int) -> None:
    size = path.stat().st_size
    if unpacked > allowed_bytes(size):
        raise _RefusalError(
            f"not loaded: it has {size:,} bytes, and its content {unpacked:,}; "
            f"{allowed_bytes(size):,} are allowed. Save it again, uncompressed."
        )


def _check(excesses: list[str]) -> None:
    if excesses:
        raise _RefusalError(f"not loaded, as it asks for too much: {_listed(excesses)}")


def _without_training(value: Any) -> Any:
    """A configuration without optimizers, losses and metrics, of nested models too."""
    if isinstance(value, dict):
        return {k: _without_training(v) for k, v in value.items() if k != "compile_config"}
    return [_without_training(item) for item in value] if isinstance(value, list) else value


def _rebuild(path: Path, content: Path, saved: _Saved, *, trust: bool) -> keras.Model:
    """Builds a model; content: what is read in place of the file."""
    dangers = list(saved.dangers)
    try:
        config = to_keras2(saved.config) if saved.is_keras3 else saved.config
        endless = endless_calls(config)
        if endless:
            raise _RefusalError(
                f"not loaded, as it is damaged: {_listed(endless)}. Copy or save it again"
            )
        if wrappers := unfinished(config):
            raise _RefusalError(f"not loaded: {_listed(wrappers)}")
        dangers += config_problems(config)  # of what is built
        if dangers and not trust:
            raise _RefusalError(
                f"not loaded, since it could run code from the file: {_listed(dangers)}. If you "
                "trust who made it, commands that have --trust load it all the same."
            )
        with limited_variables(saved.elements):
            model = _build(config, trust=trust)
        _check(output_excesses(model))
    except _RefusalError as error:
        raise ModelError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ModelError(f"{path}: {_too_deep(saved.config)}") from error
    except (Exception, SystemExit) as error:  # of Keras, or of code that was trusted
        # Keras' own message may not name the class that it did not find.
        trusted = f" What had to be trusted: {_listed(dangers)}" if dangers else ""
        raise ModelError(
            f"{path}: its model cannot be rebuilt: {_reason(error)}.{trusted}"
        ) from error
    dropped = augmentations(saved.config) if saved.is_keras3 else []
    if dropped:
        warn(
            f"{path}: {', '.join(dropped)} changed images while the model was trained; left out "
            "here, as Keras does in inference"
        )
    try:
        if content.is_dir():
            set_saved_weights(model, content)
        elif saved.is_keras3 and not h5py.is_hdf5(content):
            _set_keras3_weights(model, saved.config, content)
        else:
            model.load_weights(os.fspath(content))
    except Exception as error:
        why = ". ".join([_reason(error).removesuffix("."), *_why_unfit(model)])
        raise ModelError(f"{path}: its weights do not fit its layers: {why}") from error
    file_names().settle(model)
    return model


def _too_deep(config: dict[str, Any]) -> str:
    """Says that Keras, which goes from each layer to those in front by recursion, has no end."""
    count, limit = _count_layers(config), sys.getrecursionlimit()
    return (
        f"not loaded: its {count:,} layers, one behind or within the other, are too many in a row. "
        "Keras calls a function within a function for each to put a model together, of which "
        f"Python allows {limit:,}. Give a model with a shorter way from its inputs to its outputs, "
        f"of about {limit - _OWN_CALLS:,} layers at most: cut this one into several models, and "
        "give each by itself"
    )


def _count_layers(config: Any) -> int:
    """How many layers a model's configuration has, those of models within it among them."""
    count, left = 0, [config]
    while left:  # as deep as it may be
        one = left.pop()
        if isinstance(one, dict):
            layers = one.get("layers")
            count += len(layers) if isinstance(layers, list) else 0
            left += one.values()
        elif isinstance(one, list):
            left += one
    return count


def _build(config: dict[str, Any], *, trust: bool) -> keras.Model:
    known = dict(file_names().objects())
    sharing = keras.src.saving.serialization_lib.ObjectSharingScope()
    with _quantizers_taken_for_constraints(), sharing:
        if "module" not in config:  # .h5 files
            return keras.models.model_from_config(config, known)
        return keras.saving.deserialize_keras_object(config, known, safe_mode=not trust)


def _set_keras3_weights(model: keras.Model, config: dict[str, Any], path: Path) -> None:
    with zipfile.ZipFile(path) as archive, h5py.File(archive.open(_WEIGHTS)) as file:
        for names, group in weight_groups(config):
            layer = functools.reduce(lambda inside, name: inside.get_layer(name), names, model)
            variables = file.get(group, {})
            layer.set_weights([np.asarray(variables[str(i)]) for i in range(len(variables))])


def _reason(error: BaseException) -> str:
    """What an error says, with the end of a long text, where Keras puts the cause."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 400 else f"{text[:100]} ... {text[-300:]}"


def _why_unfit(model: keras.Model) -> list[str]:
    """What methods know of saved weights that do not fit their layers, a sentence each."""
    unfit = file_names().unfit
    kinds = {type(layer).__name__ for layer in layers_by_name(model).values()}
    return list(dict.fromkeys(why for kind, why in unfit.items() if kind in kinds))


def _listed(findings: Sequence[str]) -> str:
    """The first findings, and how many there are besides."""
    rest = len(findings) - _TOLD
    return "; ".join(findings[:_TOLD]) + (f"; and {rest} more" if rest > 0 else "")

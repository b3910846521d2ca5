"""A quantized file, ours or not, beside its float model: where it goes wrong, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset
from keras_quant.diagnose.contents import CONVERSION, FLOAT, FileContents
from keras_quant.diagnose.findings import (
    Finding,
    Layer,
    find,
    first_break,
    heals,
    input_finding,
    start_db,
)
from keras_quant.diagnose.layout import layouts
from keras_quant.diagnose.match import Match, match
from keras_quant.diagnose.measures import Codes, CodesSeen, Error, Errors, correlation
from keras_quant.diagnose.probe import SUFFIXES, contents_of, reals, runner_of
from keras_quant.diagnose.reference import FileLayers, KerasLayers, Reference
from keras_quant.errors import DataError, ModelError, UsageError
from keras_quant.files import check_is_file
from keras_quant.jobs.loaded import check_takes
from keras_quant.jobs.paths import dataset_of, record_around
from keras_quant.jobs.preprocess import declare
from keras_quant.model.files import load_model
from keras_quant.model.inputs import image_size, with_input_shape
from keras_quant.model.suffixes import is_keras_model
from keras_quant.pixels import normalize
from keras_quant.runners.child import ChildRunner
from keras_quant.runs import model_of
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

IMAGES = 64
SPLITS = ("test", "validation", "train")
_FIRST = 8  # images by which tensors are matched with layers
_BATCH_BYTES = 2**27  # of all values of a batch, of file and float model


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found of a file.

    Attributes:
        file: that was looked at.
        runtime: that ran it.
        float_model: that it was compared with; None without one.
        images: how many were answered; 0 without data.
        layers: operators, in the order in which they run.
        unmatched: tensors for which no layer of the float model was found.
        unmatched_layers: layers of the float model with kernels that no tensor was found for.
        breaks_at: the layer where values come to be wrong; None where they do not.
        findings: what is wrong, or may be.
        notes: what else is to be known.
    """

    file: Path
    runtime: str
    float_model: Path | None
    images: int
    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]
    unmatched_layers: tuple[str, ...]
    breaks_at: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def diagnose(
    file: Path,
    *,
    float_model: Path | None = None,
    dataset: str | None = None,
    preprocess: str | None = None,
    split: str = "test",
    images: int = IMAGES,
    trust: bool = False,
    progress: Progress,
) -> Diagnosis:
    """Looks at a .tflite or .onnx file, alone or beside its float model.

    Args:
        float_model: a run, a Keras file, a SavedModel, or a float .tflite or .onnx file.
        dataset: name or path; None means that of the run that the file or the float model belongs
            to, or no images at all.
        preprocess: what pixels become, see `preprocessing.parse_preprocessing`; None means what
            the file or its run says, or else the float model's first layers.
        images: how many, at most.
        trust: load a Keras file that holds code.
    Raises:
        UsageError: an argument is wrong, or there are no images to compare on.
        ModelError, RunError, DataError: file, float model or data are broken, or do not fit.
    """
    check(file, split=split, images=images)
    check_is_file(file, ModelError)
    contents = contents_of(file)
    if dataset is None and float_model is None and record_around(file) is None:
        return _diagnosis(file, contents, None, _nothing_seen(contents))
    runner = runner_of(file)
    if len(runner.inputs) != 1:
        raise ModelError(f"{file}: has inputs {', '.join(runner.inputs)}; one is supported")
    given = _Given(file, float_model, dataset, preprocess, trust, runner, progress)
    part = getattr(given.data, split).x[:images]
    if not len(part):
        raise DataError(f"dataset {given.data.name}: split {split} has no images")
    seen = _look(contents, runner, given, part, progress)
    return _diagnosis(file, contents, float_model, seen, given.data)


def check(file: Path, *, split: str, images: int) -> None:
    """Raises: UsageError: what is asked for is not known or out of range."""
    problems = []
    if file.suffix not in SUFFIXES:
        exported = file / "export" / "model.tflite"
        of_run = f"; of the run, give {exported}" if exported.is_file() else ""
        problems.append(f"{file}: is no {' or '.join(SUFFIXES)} file{of_run}")
    if split not in SPLITS:
        problems.append(f"split {split!r} is not known; splits are {', '.join(SPLITS)}")
    if images < 1:
        problems.append(f"--images is {images}; 1 or more is allowed")
    if problems:
        raise UsageError("; ".join(problems))


class _Given:
    """The images, and what the float model makes of them."""

    def __init__(
        self,
        file: Path,
        float_model: Path | None,
        dataset: str | None,
        preprocess: str | None,
        trust: bool,
        runner: ChildRunner,
        progress: Progress,
    ) -> None:
        self.reference: Reference | None = None
        model: keras.Model | None = None
        around = file if record_around(file) is not None or float_model is None else float_model
        if float_model is not None and float_model.suffix in SUFFIXES:
            self.reference = FileLayers(float_model)
            data = dataset_of(around, dataset)
        elif float_model is not None:
            progress.say(f"loading {float_model}")
            is_model = is_keras_model(float_model)
            model = load_model(float_model if is_model else model_of(float_model), trust=trust)
            data = dataset_of(around, dataset, image_size(model))
            check_takes(float_model, model, data)
            model = with_input_shape(model, data.input_shape)
            self.reference = KerasLayers(model)
        else:
            data = dataset_of(around, dataset)
        record = record_around(around)
        self.data: Dataset = declare(
            data,
            asked=preprocess,
            recorded=runner.info.preprocessing or (record.dataset.preprocess if record else None),
            model=model,
            say=progress.say,
        )
        self._takes_pixels = runner.info.takes_pixels

    def for_file(self, images: np.ndarray) -> np.ndarray:
        if self._takes_pixels and images.dtype == np.uint8:
            return images
        return self.reals(images)

    def reals(self, images: np.ndarray) -> np.ndarray:
        return normalize(images, self.data.preprocessing)


@dataclass(slots=True, kw_only=True, eq=False)
class _Seen:
    """What was counted."""

    images: int
    matches: Mapping[str, Match]
    errors: Mapping[str, Error]
    codes: Mapping[str, CodesSeen]
    keys: tuple[str, ...]
    float_layers: tuple[tuple[str, str], ...] = ()


def _nothing_seen(contents: FileContents) -> _Seen:
    keys = tuple(one.output for one in contents.operators)
    return _Seen(images=0, matches={}, errors={}, codes={}, keys=keys)


def _look(
    contents: FileContents,
    runner: ChildRunner,
    given: _Given,
    images: np.ndarray,
    progress: Progress,
) -> _Seen:
    """Runs the images through file and float model, a few at a time."""
    codes: dict[str, Codes] = {}
    errors: dict[str, Errors] = {}
    matches: dict[str, Match] = {}
    keys: dict[str, None] = {}
    start, size = 0, _FIRST
    with progress.bar("images", len(images)) as show:
        while start < len(images):
            batch = images[start : start + size]
            found = runner.run({runner.inputs[0]: given.for_file(batch)})
            for key, values in found.items():
                keys[key] = None
                tensor = contents.tensors[key]
                if tensor.scale and values.dtype.name == tensor.dtype and values.ndim > 1:
                    counter = codes.setdefault(
                        key, Codes(tensor, channels_first=contents.channels_first)
                    )
                    counter.add(values)
            total = sum(array.nbytes for array in found.values())
            if given.reference is not None:
                wanted = given.reference.values(given.reals(batch))
                total += sum(array.nbytes for array in wanted.values())
                values_of = {k: reals(v, contents.tensors[k]) for k, v in found.items()}
                if not start:
                    matches = match(
                        contents,
                        given.reference.layers,
                        wanted,
                        values_of,
                        outputs=given.reference.outputs,
                    )
                for key, one in matches.items():
                    expected = wanted[one.layer]
                    counted = errors.setdefault(key, Errors(contents.tensors[key]))
                    counted.add(expected, _laid_out(values_of[key], expected))
            start += len(batch)
            size = max(1, _BATCH_BYTES // max(1, total // len(batch)))
            size = min(size, 4 * _FIRST)
            show(start, "")
    layers = given.reference.layers if given.reference is not None else ()
    return _Seen(
        images=len(images),
        matches=matches,
        errors={key: error for key, one in errors.items() if (error := one.error()) is not None},
        codes={key: seen for key, one in codes.items() if (seen := one.seen()) is not None},
        keys=tuple(keys),
        float_layers=tuple((layer.name, layer.kind) for layer in layers),
    )


def _laid_out(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """A tensor's values as the float layer lays them out; of two ways that which is nearer."""
    ways = list(layouts(values, expected.shape, exact=False))
    return max(ways, key=lambda way: correlation(expected, way)) if len(ways) > 1 else ways[0]


_SCALINGS = ("MUL", "ADD", "SUB", "DIV")
_KERNELS = ("Conv", "Dense", "CONV_2D", "FULLY_CONNECTED", "Gemm", "MatMul")


def _diagnosis(
    file: Path,
    contents: FileContents,
    float_model: Path | None,
    seen: _Seen,
    data: Dataset | None = None,
) -> Diagnosis:
    sqnr = {
        key: math.inf if error.sqnr_db is None else error.sqnr_db
        for key, error in seen.errors.items()
    }
    at_input = _in_front(contents)
    layer_of = {key: one.layer for key, one in seen.matches.items()}
    layers = []
    for operator in contents.operators:
        key = operator.output
        if key not in seen.keys:
            continue
        tensor, found = contents.tensors[key], seen.matches.get(key)
        layers.append(
            Layer(
                name=found.layer if found else tensor.name.split(";")[0],
                tensor=tensor.name,
                matched=found.by if found else None,
                operator=operator,
                dtype=tensor.dtype,
                error=seen.errors.get(key),
                start_db=start_db(key, contents, sqnr) if key in seen.errors else None,
                codes=seen.codes.get(key),
                is_input=key in at_input,
                heals=heals(key, contents, sqnr, layer_of),
            )
        )
    first = first_break(layers)
    wanted = None
    if data is not None and data.preprocessing is not None:
        wanted = data.preprocessing.range
    of_input = input_finding(layers, contents, wanted)
    matched = {one.layer for one in seen.matches.values()}
    has_float = bool(seen.float_layers)
    return Diagnosis(
        file=file,
        runtime=contents.runtime,
        float_model=float_model,
        images=seen.images,
        layers=tuple(layers),
        unmatched=tuple(
            dict.fromkeys(layer.tensor for layer in layers if has_float and layer.matched is None)
        ),
        unmatched_layers=_unmatched(seen.float_layers, matched),
        breaks_at=first.name if first is not None else None,
        findings=(*([of_input] if of_input else []), *find(layers, contents)),
        notes=(*contents.notes, *_in_float(contents)),
    )


def _in_front(contents: FileContents) -> set[str]:
    """Tensors that are the input in another form: no operator with a kernel lies in front."""
    found = set(contents.inputs)
    for one in contents.operators:
        is_scaling = one.op.upper() in _SCALINGS and len(one.inputs) == 1
        is_same = one.moves or one.computes == CONVERSION or is_scaling
        if one.kernel is None and is_same and set(one.inputs) <= found:
            found.add(one.output)
    return found


def _unmatched(layers: tuple[tuple[str, str], ...], matched: set[str]) -> tuple[str, ...]:
    """Layers with kernels that nothing in the file was found for, nor for what follows them."""
    found = []
    for place, (name, kind) in enumerate(layers):
        if not any(part in kind for part in _KERNELS) or name in matched:
            continue
        behind = layers[place + 1 :]
        following = next((one for one, kind in behind if any(k in kind for k in _KERNELS)), None)
        between = [one for one, _ in behind]
        if following is not None:
            between = between[: between.index(following)]
        if not matched & set(between):
            found.append(name)
    return tuple(found)


def _in_float(contents: FileContents) -> tuple[str, ...]:
    """Says where a file computes nothing in codes."""
    kernels = [one for one in contents.operators if one.kernel is not None]
    if kernels and all(one.computes == FLOAT for one in kernels):
        return ("every layer with a kernel computes in float: this is no integer file",)
    return ()

"""Files to be proven elsewhere: those of exported runs, or of small nets that are written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from quantized import fake_quantized

from keras_quant.data import load_dataset
from keras_quant.errors import RunError
from keras_quant.graph.ir import Graph
from keras_quant.jobs.export import stored_limits
from keras_quant.jobs.paths import dataset_of
from keras_quant.jobs.preprocess import declare
from keras_quant.lower import lower_exactly
from keras_quant.model.files import load_model
from keras_quant.pixels import normalize
from keras_quant.preprocessing import UNIT
from keras_quant.proof.formats import EXACT_FORMATS
from keras_quant.runs import RunFolder, model_of, records
from keras_quant.tf import keras
from keras_quant.zoo import build

CALIBRATION_IMAGES = 512


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExportedNet:
    """A lowered net and its files.

    Attributes:
        graph: what the files were emitted from.
        images: float32 (images, height, width, channels), test images to prove them on.
        files: key of EXACT_FORMATS to the file's bytes.
    """

    name: str
    graph: Graph
    images: np.ndarray
    files: Mapping[str, bytes]


def read_run(run: Path, images: int) -> ExportedNet:
    """Takes the files that `kq export` left in a run's folder, and lowers its model again.

    Raises:
        RunError: the run is not exported.
        KerasQuantError: a subclass says what else is wrong with it.
    """
    folder = RunFolder(run).export
    data = declare(dataset_of(run, None), asked=None, recorded=records.load(run).dataset.preprocess)
    paths = {name: folder / form.file_name for name, form in EXACT_FORMATS.items()}
    files = {name: path.read_bytes() for name, path in paths.items() if path.exists()}
    if not files:
        raise RunError(f"{folder}: no exported file. Run `kq export {run} --to tflite,onnx`.")
    return ExportedNet(
        name=run.name,
        graph=_lowered(load_model(model_of(run)), files),
        images=data.reals(data.test.x[:images]),
        files=files,
    )


def write_nets(nets: Sequence[str], bits: Sequence[str], images: int) -> Iterator[ExportedNet]:
    """Emits nets of the zoo in all formats, with random weights and calibrated on digits.

    Args:
        bits: widths as of `kq train --bits`, each for each net.
    """
    dataset = load_dataset("digits")
    for net in nets:
        keras.utils.set_random_seed(0)
        source = build(net, dataset.input_shape, dataset.num_classes)
        _randomize(source)
        for widths in bits:
            model = fake_quantized(source, widths, dataset.train.x[:CALIBRATION_IMAGES])
            graph = _lowered(model, EXACT_FORMATS)
            yield ExportedNet(
                name=f"{net} {widths}",
                graph=graph,
                images=normalize(dataset.test.x[:images], UNIT),
                files={name: form.definition.emit(graph) for name, form in EXACT_FORMATS.items()},
            )


def _lowered(model: keras.Model, formats: Iterable[str]) -> Graph:
    """Lowers a model for all of the formats, as `kq export` does that writes them together."""
    limits = stored_limits([EXACT_FORMATS[name] for name in formats])
    return lower_exactly(model, limits=limits).graph


def _randomize(model: keras.Model) -> None:
    """Gives biases and batch norms values, some gammas negative, as training does."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            (channels,) = layer.gamma.shape
            gamma, variance = rng.uniform(-0.5, 1.5, channels), rng.uniform(0.1, 1.5, channels)
            beta, mean = rng.normal(0, 0.3, (2, channels))
            layer.set_weights([gamma, beta, mean, variance])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.3, layer.bias.shape))

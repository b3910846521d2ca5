"""QKeras as it comes: the twin that a user of it alone would write, and its training.

Nothing here may be called where QKeras has been repaired (methods.qkeras.repair), which is so from
when keras_quant first makes or reads a model of the method qkeras.
"""

from __future__ import annotations

import functools
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset
from keras_quant.errors import RunError
from keras_quant.files import write_json
from keras_quant.jobs.train import loop_settings, prepare
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.methods.qkeras.door import qkeras
from keras_quant.runs import RunFolder
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras
from keras_quant.training.loop import train_epochs

FILE_NAME = "stock.json"
EDGE_BITS = 8  # of the kernels of the first and the last layer
INTEGER_BITS = 2  # of ReLUs, in front of the point: with one, 2 bits hardly learned
_TEST_BATCH = 250


def stock_twin(
    layer: keras.layers.Layer, *, bits: int, wide: frozenset[str] = frozenset()
) -> keras.layers.Layer:
    """Makes what a user of QKeras alone would write in place of a float layer.

    Args:
        bits: of kernels and activations.
        wide: names of layers whose kernels have EDGE_BITS.
    """
    config = layer.get_config()
    same = {key: config[key] for key in ("name", "use_bias") if key in config}
    width = EDGE_BITS if layer.name in wide else bits
    quantizer = qkeras.quantized_bits(width, 0, alpha="auto")
    if isinstance(layer, keras.layers.ReLU):
        return qkeras.QActivation(f"quantized_relu({bits},{INTEGER_BITS})", name=layer.name)
    if isinstance(layer, keras.layers.Dense):
        return qkeras.QDense(layer.units, kernel_quantizer=quantizer, **same)
    if type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        same |= {key: config[key] for key in ("kernel_size", "strides", "padding")}
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return qkeras.QDepthwiseConv2D(depthwise_quantizer=quantizer, **same)
        return qkeras.QConv2D(layer.filters, kernel_quantizer=quantizer, **same)
    return type(layer).from_config(config)


def stock_model(source: keras.Model, *, bits: int, edges: bool) -> keras.Model:
    """The twin of a float model, with its weights.

    Args:
        edges: whether the first and the last kernel have EDGE_BITS.
    """
    # Once it is repaired, this would not be the peer.
    assert qkeras.quantized_relu.__call__.__module__ == "qkeras.quantizers"
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    names = [layer.name for layer in source.layers if isinstance(layer, kinds)]
    wide = frozenset({names[0], names[-1]} if edges else ())
    twin = functools.partial(stock_twin, bits=bits, wide=wide)
    model = keras.models.clone_model(source, clone_function=twin)
    for layer in source.layers:
        model.get_layer(layer.name).set_weights(layer.get_weights())
    return model


def stock_accuracy(settings: TrainSettings, folder: Path, *, bits: int) -> float:
    """Test accuracy of the Keras model, in %: QKeras writes no file of integers.

    What lies in folder is read where it is finished, and goes on where it was stopped.

    Args:
        settings: of the run that it is the peer of: same parent, epochs, batches, optimizer.
    Raises:
        RunError: it is of other bits, epochs or another seed.
        TrainingError: training failed.
    """
    file = folder / FILE_NAME
    asked = {"bits": bits, "epochs": settings.epochs, "seed": settings.seed}
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            accuracy = process.submit(_trained, settings, folder, bits).result()
        write_json(file, asked | {"accuracy": accuracy})
    record = json.loads(file.read_text())
    accuracy = record.pop("accuracy")
    if record != asked:
        raise RunError(f"{file}: of {record}, not {asked}. Give another --out, or remove it")
    return float(accuracy)


def _trained(settings: TrainSettings, folder: Path, bits: int) -> float:
    source, dataset, _ = prepare(settings, Progress())
    model = stock_model(source, bits=bits, edges=True)
    loop = loop_settings(settings, dataset, RunFolder(folder))
    train_epochs(model, model, dataset, loop, folder=folder, resume=True, progress=Progress())
    return 100 * _share_right(model, dataset)


def _share_right(model: keras.Model, dataset: Dataset) -> float:
    test = dataset.test
    answers = model.predict(dataset.reals(test.x), batch_size=_TEST_BATCH, verbose=0)
    return float(np.mean(answers.argmax(axis=-1) == test.y))

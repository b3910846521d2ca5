"""Traces of the Hessian of a float model's loss, over some training images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_quant.data import Dataset
from keras_quant.methods.twins import kernel_variable
from keras_quant.model.tasks import CLASSIFICATION, find_tasks
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import Plan, split_float
from keras_quant.runs.progress import Progress
from keras_quant.search.hessian import loss_of, traces
from keras_quant.search.record import Trace
from keras_quant.tf import keras, tf
from keras_quant.training.objectives import OBJECTIVES

# Of training images, in batches of that many; the loss whose Hessian is meant is theirs.
IMAGES, BATCH = 256, 64


def estimate_traces(
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    names: Sequence[str],
    *,
    probes: int,
    progress: Progress,
) -> dict[str, Trace]:
    """Estimates the trace for the kernel of each layer, see `search.hessian`.

    Images without labels are taken for what the model says they are.

    Args:
        planned: of the source.
        names: of the layers.
        probes: random vectors.
    """
    model = split_float(planned, source, _logits(planned))
    part = dataset.train.spread(IMAGES)
    count, labels = len(part), part.y
    reals, wanted = (np.asarray(dataset.reals(x), np.float32) for x in (part.x, part.wanted))
    if not dataset.has_labels:
        answers = tf.nest.flatten(model(reals, training=False))[0]
        labels = np.asarray(answers).reshape(count, -1).argmax(axis=1)
    layers = layers_by_name(model)
    rows = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
    progress.say(f"estimating traces of the Hessian with {probes} random vectors")
    with progress.bar("Hessian", probes) as show:
        return traces(
            {name: kernel_variable(layers[name]) for name in names},
            loss_of(model, _losses(model, dataset)),
            [(reals[row], (labels[row], wanted[row])) for row in rows],
            probes=probes,
            on_probe=lambda done: show(done, ""),
        )


def _logits(planned: Plan) -> list[str]:
    """The model's outputs, before a softmax, by the names of the operations."""
    by_name = planned.operations.by_name
    ends = [by_name[name] for name in planned.operations.outputs]
    return [end.inputs[0] if end.kind == "softmax" else end.name for end in ends]


def _losses(model: keras.Model, dataset: Dataset) -> list[Callable[[Any, Any, Any], Any]]:
    """The loss of each output, by what it is for; that of classes where nothing says it."""
    tasks = find_tasks([tuple(output.shape[1:]) for output in model.outputs], dataset)
    known = [task or CLASSIFICATION for task in tasks]
    return [_of_labels(task) if task == CLASSIFICATION else _of_images(task) for task in known]


def _of_labels(task: str) -> Callable[[Any, Any, Any], Any]:
    return lambda x, targets, output: OBJECTIVES[task].loss(targets[0], output)


def _of_images(task: str) -> Callable[[Any, Any, Any], Any]:
    return lambda x, targets, output: OBJECTIVES[task].loss(targets[1], output)

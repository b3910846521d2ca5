"""The training loop: seeded, resumable after any epoch, and loud about NaN."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.data import Dataset
from keras_quant.data.pipeline import TrainBatches
from keras_quant.errors import RunError, TrainingError
from keras_quant.files import write_text
from keras_quant.methods.layers import fused_kernels
from keras_quant.methods.readers import tuned_variables
from keras_quant.model.logits import LogitFunction, accuracy, cross_entropy
from keras_quant.model.topology import layers_by_name
from keras_quant.runs.history import Epoch, best
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras, tf
from keras_quant.training import checkpoint as checkpoints
from keras_quant.training import distill
from keras_quant.training.checkpoint import Checkpoint
from keras_quant.training.optimizer_settings import OptimizerSettings
from keras_quant.training.optimizers import make_optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How long and on what a model is trained.

    Attributes:
        patience: stop when validation accuracy has not risen for this many epochs, and keep
            the best epoch's weights; 0 trains all epochs and keeps the last one's.
        tensorboard: folder for TensorBoard's event files, or None.
        distill: share of the teacher's answers in the loss, see `distill.distilled_loss`; 0 is
            the labels alone.
    """

    epochs: int
    batch_size: int
    seed: int
    augment: bool
    optimizer: OptimizerSettings
    patience: int = 0
    tensorboard: Path | None = None
    distill: float = 0.0


def fit(
    model: keras.Model,
    trained: keras.Model,
    dataset: Dataset,
    settings: FitSettings,
    *,
    teacher: keras.Model | None = None,
    folder: Path,
    resume: bool,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """Trains until the last epoch, or until early stopping; saves a checkpoint each epoch.

    Args:
        model: the float32 model that is validated, and that holds the weights at the end.
        trained: the model whose step is run: model itself, or its twin in bfloat16.
        teacher: the float model whose answers are learned too; None where settings.distill is 0.
        folder: where checkpoint.npz and history.csv go.
        resume: go on from the folder's checkpoint where there is one.
    Returns: a row an epoch.
    Raises:
        TrainingError: the loss is not finite; model then holds the last good weights.
    """
    batches = TrainBatches(
        dataset, batch_size=settings.batch_size, seed=settings.seed, augment=settings.augment
    )
    optimizer = make_optimizer(
        settings.optimizer,
        trained.trainable_variables,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=settings.epochs,
        tunings=tuned_variables(layers_by_name(trained).values()),
    )
    loss, metric = _loss, "accuracy"
    if settings.distill:
        loss, metric = distill.distilled_loss(settings.distill), distill.accuracy
    trained.compile(optimizer=optimizer, loss=loss, metrics=[metric])
    state = checkpoints.load(folder) if resume else None
    if state:
        _restore(trained, optimizer, state, folder)
        write_text(folder / "history.csv", _as_csv(state.history))
    history = state.history if state else ()
    best_weights = state.best_weights if state else trained.get_weights()
    logits = LogitFunction(model, dataset.preprocessing)
    while len(history) < settings.epochs and not _has_stalled(history, settings.patience):
        before = trained.get_weights()
        try:
            _restart_random_layers(trained, seed=settings.seed, epoch=len(history))
            row = _epoch(
                trained, teacher, batches, len(history), epochs=settings.epochs, progress=progress
            )
            model.set_weights(trained.get_weights())
            row = _validated(row, logits, dataset)
        except TrainingError:
            trained.set_weights(before)
            model.set_weights(before)
            raise
        history = (*history, row)
        if best(history) is row:
            best_weights = model.get_weights()
        state = Checkpoint(
            weights=trained.get_weights(),
            best_weights=best_weights,
            optimizer=[variable.numpy() for variable in optimizer.variables],
            history=history,
        )
        checkpoints.save(state, folder)
        write_text(folder / "history.csv", _as_csv(history))
        _log(settings.tensorboard, row)
        progress.epoch(row, settings.epochs)
    model.set_weights(best_weights if settings.patience else trained.get_weights())
    return history


def _restore(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, state: Checkpoint, folder: Path
) -> None:
    try:
        model.set_weights(list(state.weights))
        for variable, value in zip(optimizer.variables, state.optimizer, strict=True):
            variable.assign(value)
    except ValueError as error:
        raise RunError(
            f"{folder / checkpoints.FILE_NAME}: is of another model than is built now; train "
            "again with --overwrite"
        ) from error


def _loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    # In float32 even where the model computes in bfloat16.
    return keras.losses.sparse_categorical_crossentropy(
        labels, tf.cast(logits, tf.float32), from_logits=True
    )


def _restart_random_layers(model: keras.Model, *, seed: int, epoch: int) -> None:
    """Makes what Dropout and its like draw in an epoch a function of (seed, epoch) alone."""
    for number, layer in enumerate(model.layers):
        random = getattr(layer, "_random_generator", None)
        if random is not None:
            drawn = np.random.SeedSequence([seed, epoch, number]).generate_state(1)
            random._generator.reset_from_seed(int(drawn[0]))


def _epoch(
    model: keras.Model,
    teacher: keras.Model | None,
    batches: TrainBatches,
    epoch: int,
    *,
    epochs: int,
    progress: Progress,
) -> Epoch:
    title = f"epoch {epoch + 1}/{epochs}"
    started = time.perf_counter()
    examples = batches(epoch)
    if teacher is not None:
        examples = distill.with_answers(examples, teacher)
    with progress.bar(title, batches.steps_per_epoch) as show, fused_kernels():
        fitted = model.fit(
            examples,
            epochs=epoch + 1,
            initial_epoch=epoch,
            verbose=0,
            callbacks=[_Watch(show, epoch + 1)],
        )
    return Epoch(
        epoch=epoch + 1,
        loss=float(fitted.history["loss"][0]),
        accuracy=float(fitted.history["accuracy"][0]),
        val_loss=math.nan,
        val_accuracy=math.nan,
        learning_rate=float(model.optimizer.learning_rate),
        seconds=time.perf_counter() - started,
    )


class _Watch(keras.callbacks.Callback):
    """Moves the progress bar, and stops at the first loss that is not finite."""

    def __init__(self, show: Callable[[int, str], None], epoch: int) -> None:
        super().__init__()
        self.show, self.epoch = show, epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            where = f"epoch {self.epoch}, batch {batch + 1}"
            raise _diverged(f"the loss became {logs['loss']} in {where}")
        self.show(
            batch + 1,
            f"loss {logs.get('loss', 0.0):.4f}  accuracy {logs.get('accuracy', 0.0):.4f}",
        )


def _validated(row: Epoch, logits: LogitFunction, dataset: Dataset) -> Epoch:
    values, labels = logits(dataset.validation.x), dataset.validation.y
    loss = cross_entropy(values, labels)
    if not math.isfinite(loss):
        raise _diverged(f"the validation loss became {loss} in epoch {row.epoch}")
    return dataclasses.replace(row, val_loss=loss, val_accuracy=accuracy(values, labels))


def _diverged(what: str) -> TrainingError:
    return TrainingError(
        f"{what}. The weights are back at those before this epoch. Try a lower --learning-rate, "
        "a --warmup of some epochs, or more bits"
    )


def _has_stalled(history: Sequence[Epoch], patience: int) -> bool:
    if not patience or not history:
        return False
    first_best = max(history, key=lambda row: row.val_accuracy)  # max gives the first of equals
    return history[-1].epoch - first_best.epoch >= patience


def _as_csv(history: Sequence[Epoch]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch.__slots__)
    writer.writerows([f"{getattr(row, name):.6g}" for name in Epoch.__slots__] for row in history)
    return text.getvalue()


def _log(folder: Path | None, row: Epoch) -> None:
    if folder is None:
        return
    # As tf.summary.scalar, which needs the tensorboard package; only a reader of the files does.
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
    with tf.summary.create_file_writer(str(folder)).as_default():
        for name in Epoch.__slots__[1:]:
            value = np.float32(getattr(row, name))
            tf.summary.write(name, value, step=row.epoch, metadata=metadata)

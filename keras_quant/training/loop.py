"""The training loop: seeded, resumable after any epoch, and loud about NaN."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.arithmetic import products_in_bfloat16
from keras_quant.data import Dataset
from keras_quant.data.pipeline import TrainBatches
from keras_quant.errors import RunError, TrainingError
from keras_quant.files import write_text
from keras_quant.methods.layers import fused_kernels
from keras_quant.methods.readers import tuned_variables
from keras_quant.methods.straight_through import SMALLEST
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.probabilities import are_probabilities
from keras_quant.model.tasks import CLASSIFICATION, VARIATIONAL, tasks_of
from keras_quant.model.topology import layers_by_name
from keras_quant.pixels import normalize
from keras_quant.runs.history import FILE_NAME, NUMBERS, Epoch, best, columns, to_csv
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras, tf
from keras_quant.training import boosting, distill, exits
from keras_quant.training import checkpoint as checkpoints
from keras_quant.training.checkpoint import Checkpoint
from keras_quant.training.clusters import clustered_kernels, keep_clusters
from keras_quant.training.objectives import Objective, TensorFunction, objectives_of
from keras_quant.training.optimizer_settings import OptimizerSettings
from keras_quant.training.optimizers import make_optimizer
from keras_quant.training.oscillations import freezable, freeze_oscillations
from keras_quant.training.replicas import (
    Replicas,
    check_divides,
    from_chief,
    lost_workers_named,
    shares,
    together,
)
from keras_quant.training.sparsity import keep_zeros, pruned_kernels

VALIDATION_BATCH = 250
_PART = "score_part"  # how Keras calls what the mean of a score is taken of


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How long and on what a model is trained.

    Attributes:
        patience: stop when the validation score has not risen for this many epochs, and keep
            the best epoch's weights; 0 trains all epochs and keeps the last one's.
        tensorboard: folder for TensorBoard's event files, or None.
        distill: share of the teacher's answers in the loss, see `distill.distilled_loss`; 0 is
            the labels alone.
        loss_weights: of the outputs' losses, in their order; () weighs all by 1.
        self_distill: share of the last output's answers that earlier ones learn, see `exits`.
        orthogonal: keep the gradients of outputs apart, see `exits`.
        accumulate: batches whose gradients are averaged for one update.
        freeze_oscillations: hold weights whose codes turn back too often, see `oscillations`.
        keep_clusters: move weights that are equal before training alike, see `clusters`.
        keep_zeros: hold weights that are 0 before training, see `sparsity`.
        bfloat16: compute products in bfloat16 on a CPU, see `arithmetic`.
        boosted: shrinkage of a net that learns what the teacher, the sum of those before it, leaves
            of the labels, see `boosting`; 0 where it learns the labels.
        soft_boosted: shrinkage of nets that are trained at once; the model's outputs are theirs,
            and last their sum. 0 where it has others.
    """

    epochs: int
    batch_size: int
    seed: int
    augment: bool
    optimizer: OptimizerSettings
    patience: int = 0
    tensorboard: Path | None = None
    distill: float = 0.0
    loss_weights: tuple[float, ...] = ()
    self_distill: float = 0.0
    orthogonal: bool = False
    accumulate: int = 1
    freeze_oscillations: bool = False
    keep_clusters: bool = False
    keep_zeros: bool = False
    bfloat16: bool = False
    boosted: float = 0.0
    soft_boosted: float = 0.0


def train_epochs(
    model: keras.Model,
    trained: keras.Model,
    dataset: Dataset,
    settings: LoopSettings,
    *,
    teacher: Callable[..., Any] | None = None,
    replicas: Replicas | None = None,
    folder: Path,
    resume: bool,
    progress: Progress,
) -> tuple[Epoch, ...]:
    """Trains until the last epoch, or until early stopping; saves a checkpoint each epoch.

    Args:
        model: the float32 model that is validated, and that holds the weights at the end.
        trained: the model that is trained: model itself, or its twin in Keras' policy of bfloat16,
            or in the scope of replicas.
        teacher: gives the logits that are learned too, see `distill.with_answers`, or of which
            the rest is learned; None where settings.distill and settings.boosted are 0.
        replicas: that train together; None for one.
        folder: where checkpoint.npz and history.csv go.
        resume: go on from the folder's checkpoint where there is one.
    Returns: a row an epoch.
    Raises:
        TrainingError: the loss is not finite; model then holds the last good weights.
        UsageError: a batch cannot be divided among replicas.
        RunError: the checkpoint is of another model, or a worker is gone.
    """
    outputs = _Outputs.of(model, dataset, settings)
    batches = TrainBatches(
        dataset,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=settings.augment,
        clean=dataset.train.clean is not None and set(outputs.tasks) != {CLASSIFICATION},
    )
    if replicas is not None:
        check_divides(batches.batch_size, replicas)
    with replicas.strategy.scope() if replicas else contextlib.nullcontext():
        optimizer = make_optimizer(
            settings.optimizer,
            trained.trainable_variables,
            steps_per_epoch=batches.steps_per_epoch,
            epochs=settings.epochs,
            tunings=tuned_variables(layers_by_name(trained).values()),
            accumulate=settings.accumulate,
            extend=functools.partial(_hold, model=trained, settings=settings),
        )
        outputs.compile(trained, optimizer)
    state = checkpoints.load(folder) if resume else None
    if state:
        _restore(trained, optimizer, state, folder)
        write_text(folder / FILE_NAME, to_csv(state.history))
    history = state.history if state else ()
    best_weights = state.best_weights if state else trained.get_weights()
    answer: boosting.Answer = AnswerFunction(model)
    if settings.boosted:
        assert teacher is not None
        answer = boosting.summed(answer, teacher, settings.boosted)
    with (
        lost_workers_named(replicas),  # reading weights asks all workers, too
        outputs.steps(trained, settings),
        together(trained, replicas) if replicas else contextlib.nullcontext(),
    ):
        while len(history) < settings.epochs and not _has_stalled(history, settings.patience):
            before = trained.get_weights()
            try:
                restart_random_layers(trained, seed=settings.seed, epoch=len(history))
                row = _epoch(
                    trained,
                    teacher,
                    batches,
                    outputs,
                    replicas,
                    epoch=len(history),
                    epochs=settings.epochs,
                    bfloat16=settings.bfloat16,
                    progress=progress,
                )
                check_steps(trained, epoch=len(history) + 1)
                model.set_weights(trained.get_weights())
                row = _judged(row, answer, outputs, dataset, replicas)
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
            write_text(folder / FILE_NAME, to_csv(history))
            _log(settings.tensorboard, row)
            progress.epoch(row, settings.epochs)
        model.set_weights(best_weights if settings.patience else trained.get_weights())
    return history


def _hold(
    optimizer: keras.optimizers.Optimizer, *, model: keras.Model, settings: LoopSettings
) -> None:
    """Lets updates hold those weights that settings say."""
    if settings.freeze_oscillations:
        freeze_oscillations(optimizer, freezable(model), settings.optimizer.learning_rate)
    if settings.keep_clusters:
        keep_clusters(optimizer, clustered_kernels(model))
    if settings.keep_zeros:
        keep_zeros(optimizer, pruned_kernels(model))


def check_steps(model: keras.Model, *, epoch: int) -> None:
    """Checks that what a method learns by factors, such as steps, is still above 0.

    Raises:
        TrainingError: names all variables that are not.
    """
    fallen = [
        f"{variable.name.partition(':')[0]} ({values.min():.3g})"
        for variable, tuning in tuned_variables(layers_by_name(model).values())
        if tuning.relative and not ((values := variable.numpy()) > SMALLEST).all()
    ]
    if fallen:
        raise _diverged(
            f"learned steps fell to 0, or are NaN, in epoch {epoch}: {', '.join(fallen)}"
        )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outputs:
    """What is asked of a model's outputs, in their order.

    Attributes:
        tasks: see `model.tasks`.
        objectives: how each is trained and judged.
        weights: of their losses.
        distill: share of a teacher's answers in the loss of each output, all of classes.
        boosted: see LoopSettings.
        softmax: of each output, whether it is probabilities.
    """

    tasks: tuple[str, ...]
    objectives: tuple[Objective, ...]
    weights: tuple[float, ...]
    distill: float
    boosted: float
    softmax: tuple[bool, ...]

    @classmethod
    def of(cls, model: keras.Model, dataset: Dataset, settings: LoopSettings) -> _Outputs:
        shapes = [output.shape[1:] for output in model.outputs]
        tasks = tasks_of(shapes, dataset, name=model.name)
        weights = settings.loss_weights or (1.0,) * len(tasks)
        return cls(
            tasks=tasks,
            objectives=objectives_of(model, tasks, span=dataset.span),
            weights=weights,
            distill=settings.distill,
            boosted=settings.boosted,
            softmax=are_probabilities(model),
        )

    @property
    def last(self) -> Objective:
        return self.objectives[-1]

    def score(self, parts: Sequence[float]) -> float:
        """What an epoch is judged by: by the last output, or by all that make an ELBO together.

        Args:
            parts: the mean of each output's.
        """
        judged = parts if self.tasks == VARIATIONAL else parts[-1:]
        return self.last.to_score(sum(judged)) if judged else math.nan

    def compile(self, model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        model.compile(
            optimizer,
            loss=self.losses,
            loss_weights=list(self.weights),
            metrics=[[_named(part)] for part in self._parts],
        )

    @property
    def _parts(self) -> list[TensorFunction]:
        """What the means of each output's score are taken of, while training."""
        if self.boosted:
            return [boosting.accuracy(self.boosted)]
        return [distill.accuracy if self.distill else one.part for one in self.objectives]

    @property
    def losses(self) -> list[TensorFunction]:
        """What each output's targets and values come to, (batch,)."""
        if self.boosted:
            return [boosting.residual_loss]
        if not self.distill:
            return [objective.loss for objective in self.objectives]
        return [distill.distilled_loss(self.distill, probabilities=one) for one in self.softmax]

    def steps(
        self, model: keras.Model, settings: LoopSettings
    ) -> contextlib.AbstractContextManager[None]:
        """Lets a model take its steps as settings say, where compiling it cannot."""
        if settings.soft_boosted:
            losses = boosting.soft_boosted(settings.soft_boosted)
            return exits.joint_steps(model, losses, orthogonal=False)
        if settings.self_distill:
            losses = exits.self_distilled(
                settings.self_distill, model, self.last.loss, self.weights
            )
        else:
            losses = exits.weighted(self.losses, self.weights)
        if settings.self_distill or settings.orthogonal:
            return exits.joint_steps(model, losses, orthogonal=settings.orthogonal)
        return contextlib.nullcontext()

    def targets(self, images: Any, labels: Any) -> list[Any]:
        """What each output is compared with."""
        return [labels if task == CLASSIFICATION else images for task in self.tasks]


def _named(part: Any) -> keras.metrics.Metric:
    return keras.metrics.MeanMetricWrapper(part, name=_PART)


def restart_random_layers(model: keras.Model, *, seed: int, epoch: int) -> None:
    """Makes what Dropout and its like draw in an epoch a function of (seed, epoch) alone.

    Args:
        model: layers of models inside it, such as widths or members, are restarted too.
        epoch: from 0; that after the last is for what is measured at the end.
    """
    for number, layer in enumerate(layers_by_name(model).values()):
        random = getattr(layer, "_random_generator", None)
        if random is not None:
            drawn = np.random.SeedSequence([seed, epoch, number]).generate_state(1)
            random._generator.reset_from_seed(int(drawn[0]))


def _epoch(
    model: keras.Model,
    teacher: Callable[..., Any] | None,
    batches: TrainBatches,
    outputs: _Outputs,
    replicas: Replicas | None,
    *,
    epoch: int,
    epochs: int,
    bfloat16: bool,
    progress: Progress,
) -> Epoch:
    title = f"epoch {epoch + 1}/{epochs}"
    started = time.perf_counter()
    examples = batches(epoch)
    if teacher is not None:
        examples = distill.with_answers(examples, teacher)
        if len(outputs.tasks) > 1:
            examples = examples.map(lambda x, targets: (x, (targets,) * len(outputs.tasks)))
    elif outputs.tasks != (CLASSIFICATION,):
        # Where there are clean images, they are the third.
        examples = examples.map(
            lambda x, y, *clean: (x, tuple(outputs.targets(clean[0] if clean else x, y)))
        )
    given = examples if replicas is None else shares(examples, batches.batch_size, replicas)
    with (
        progress.bar(title, batches.steps_per_epoch) as show,
        fused_kernels(),
        products_in_bfloat16() if bfloat16 else contextlib.nullcontext(),
    ):
        fitted = model.fit(
            given,
            steps_per_epoch=None if replicas is None else batches.steps_per_epoch,
            epochs=epoch + 1,
            initial_epoch=epoch,
            verbose=0,
            callbacks=[_Watch(show, epoch + 1, outputs)],
        )
    return Epoch(
        epoch=epoch + 1,
        loss=float(fitted.history["loss"][0]),
        score=outputs.score(_parts({key: values[0] for key, values in fitted.history.items()})),
        val_loss=math.nan,
        val_score=math.nan,
        learning_rate=float(model.optimizer.learning_rate.numpy()),
        seconds=time.perf_counter() - started,
        metric=outputs.last.score,
    )


def _parts(logs: Mapping[str, float]) -> list[float]:
    """What scores are made of, in the order of the outputs, as Keras lists it."""
    return [float(value) for key, value in logs.items() if key.endswith(_PART)]


class _Watch(keras.callbacks.Callback):
    """Moves the progress bar, and stops at the first loss that is not finite."""

    def __init__(self, show: Callable[[int, str], None], epoch: int, outputs: _Outputs) -> None:
        super().__init__()
        self.show, self.epoch, self.outputs = show, epoch, outputs

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if not math.isfinite(logs.get("loss", 0.0)):
            where = f"epoch {self.epoch}, batch {batch + 1}"
            raise _diverged(f"the loss became {logs['loss']} in {where}")
        self.show(
            batch + 1,
            f"loss {logs.get('loss', 0.0):.4f}  "
            f"{self.outputs.last.score} {self.outputs.score(_parts(logs)):.4f}",
        )


def _judged(
    row: Epoch,
    answer: boosting.Answer,
    outputs: _Outputs,
    dataset: Dataset,
    replicas: Replicas | None,
) -> Epoch:
    """What the chief finds on the validation images: all processes stop by the same numbers.

    Raises:
        TrainingError: the validation loss is not finite.
        RunError: a worker is gone.
    """
    if replicas is None:
        return _validated(row, answer, outputs, dataset)
    told: dict[str, bytes] | None = None
    if replicas.is_chief:
        try:
            row = _validated(row, answer, outputs, dataset)
            told = {"row": np.array([row.val_loss, row.val_score]).tobytes()}
        except TrainingError:
            from_chief({"failed": b""}, replicas)
            raise
    found = from_chief(told, replicas)
    if "failed" in found:
        raise _diverged(f"the validation loss became NaN in epoch {row.epoch}")
    loss, score = np.frombuffer(found["row"]).tolist()
    return dataclasses.replace(row, val_loss=loss, val_score=score)


def _validated(
    row: Epoch,
    answer: boosting.Answer,
    outputs: _Outputs,
    dataset: Dataset,
) -> Epoch:
    """Fills in what a row lacks: means over the validation images, a batch at a time."""
    split, loss, parts = dataset.validation, 0.0, np.zeros(len(outputs.tasks))
    for start in range(0, len(split), VALIDATION_BATCH):
        now = slice(start, start + VALIDATION_BATCH)
        part = split.at(now)
        images, share = normalize(part.x, dataset.preprocessing), len(part) / len(split)
        targets = outputs.targets(dataset.reals(part.wanted), part.y)
        for place, (objective, weight, target, output) in enumerate(
            zip(outputs.objectives, outputs.weights, targets, answer(images), strict=True)
        ):
            mean_loss, mean_part = objective.measure(target, output)
            loss += share * weight * mean_loss
            parts[place] += share * mean_part
    if not math.isfinite(loss):
        raise _diverged(f"the validation loss became {loss} in epoch {row.epoch}")
    return dataclasses.replace(row, val_loss=loss, val_score=outputs.score(parts.tolist()))


def _diverged(what: str) -> TrainingError:
    return TrainingError(
        f"{what}. The weights are back at those before this epoch. Try a lower --learning-rate, "
        "a --warmup of some epochs, or more bits"
    )


def _has_stalled(history: Sequence[Epoch], patience: int) -> bool:
    if not patience or not history:
        return False
    first_best = max(history, key=lambda row: row.val_score)  # max gives the first of equals
    return history[-1].epoch - first_best.epoch >= patience


def _log(folder: Path | None, row: Epoch) -> None:
    if folder is None:
        return
    # As tf.summary.scalar, which needs the tensorboard package; only a reader of the files does.
    plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
    with tf.summary.create_file_writer(str(folder)).as_default():
        for name, title in zip(NUMBERS[1:], columns(row)[1:], strict=True):
            value = np.float32(getattr(row, name))
            tf.summary.write(title, value, step=row.epoch, metadata=metadata)

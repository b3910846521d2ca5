"""The main job: from a model's name, a dataset and a scheme to a trained run, exported and proven.

A run's folder is made when activations are calibrated and the model can be quantized and lowered.
From then on each stage leaves its result there before the next begins, so that a killed run goes on
where it was: statistics.npz, then checkpoint.npz after each epoch, then model.keras, then the
export.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from keras_quant import runs
from keras_quant.arithmetic import BFLOAT16_FLAGS, can_rewrite, has_gpu
from keras_quant.calibration.collect import Statistics
from keras_quant.calibration.quantize import quantize
from keras_quant.calibration.store import save_statistics
from keras_quant.data import Dataset, load_dataset
from keras_quant.data.dataset import drawn_again
from keras_quant.data.pipeline import TrainBatches, steps_per_epoch
from keras_quant.errors import RunError, TrainingError, UsageError
from keras_quant.files import write_text
from keras_quant.jobs.begin import begun
from keras_quant.jobs.calibration import collect_statistics, read_statistics
from keras_quant.jobs.finish import finish
from keras_quant.jobs.preprocess import declare
from keras_quant.jobs.replicas import shared_folder, start_replicas
from keras_quant.jobs.source import build_float, tasks_of_model
from keras_quant.jobs.teacher import Teacher, load_sum, load_teacher, of_logits
from keras_quant.jobs.train_settings import TrainSettings, begin_record, check
from keras_quant.jobs.validation import run_behind, warn_of_seen
from keras_quant.lower import lower
from keras_quant.model.files import save_model
from keras_quant.model.tasks import CLASSIFICATION
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare import Plan, plan
from keras_quant.preprocessing import parse_preprocessing
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.write import Export
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import RunRecord, instructions
from keras_quant.schemes.file import scheme_to_yaml
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.tf import keras, use_threads
from keras_quant.training import checkpoint
from keras_quant.training.boosting import none_before
from keras_quant.training.clusters import describe_clusters
from keras_quant.training.loop import LoopSettings, restart_random_layers, train_epochs
from keras_quant.training.norms import reestimate_norms
from keras_quant.training.oscillations import freezable
from keras_quant.training.replicas import Replicas, weights_of_chief
from keras_quant.training.sparsity import check_zeros, pruned_kernels

FEW_IMAGES = 128  # that show what a model would be refused for
NORM_IMAGES = 4096  # of which statistics of batch norms are measured again: 32 batches of 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainResult:
    """A finished run: its folder, its record and the proof of its file."""

    folder: RunFolder
    record: RunRecord
    export: Export


def train(
    settings: TrainSettings,
    path: Path,
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> TrainResult | None:
    """Trains a model, moves its biases to exact integers, evaluates, exports and proves it.

    Args:
        path: the run's folder; must not hold a run unless overwrite or resume is given.
        command: the process's arguments, for the record.
        resume: go on with a run that was stopped; settings must be those it was begun with.
    Returns: None in a process that helps another one to train, which writes the run.
    Raises:
        KerasQuantError: a subclass says what is wrong with the input, or what failed.
        ParityError: the exported file does not answer as the reference does.
    """
    check(settings)
    if settings.together:
        raise UsageError(f"{path}: is trained at once with others, by kq anytime train-ensemble")
    check_starts_elsewhere(settings, path)
    source, dataset, replicas = prepare(settings, progress)
    planned = plan(source, settings.scheme)
    teacher = teacher_of(settings, source, dataset)  # before there is a folder, or one is replaced
    count = 1 if replicas is None else replicas.count
    record = begin_record(settings, dataset, planned.float_layers, command, replicas=count)
    own = functools.partial(
        opened, path, record, settings.scheme, overwrite=overwrite, resume=resume
    )

    make = functools.partial(made, planned, source, dataset, settings, progress=progress)
    alone = replicas is None or replicas.cluster is None  # else the chief has the folder
    if alone and not resume:
        runs.check_free(path, overwrite=overwrite)
    # What is refused is told before there is a folder, or a run is replaced.
    before = None if resume else make(file=None)
    with shared_folder(own, record, replicas) as (folder, record):
        model, statistics = before or make(file=folder.statistics)
        keep_statistics(statistics, folder.statistics)
        train_model(
            model,
            source,
            lambda source: _quantized(source, settings, statistics),
            teacher,
            dataset,
            settings,
            folder,
            replicas=replicas,
            resume=resume,
            progress=progress,
        )
        if replicas is not None and not replicas.is_chief:
            return None
        record, exported = finish(
            model, source, dataset, folder, record, [FORMATS["tflite"]], progress=progress
        )
        # Last, so that no kill costs the epochs that are done.
        (folder.path / checkpoint.FILE_NAME).unlink(missing_ok=True)
    return TrainResult(folder=folder, record=record, export=exported.files[0])


def check_starts_elsewhere(settings: TrainSettings, path: Path) -> None:
    """Checks that training does not start from what lies in the folder of its own run.

    Raises:
        UsageError: it does.
    """
    if settings.parent is not None and settings.parent.resolve() == path.resolve():
        raise UsageError(f"{path}: a run cannot start --from itself; give --name NAME for another")
    if settings.is_file and path.resolve() in Path(settings.model).resolve().parents:
        raise UsageError(
            f"{settings.model} lies in the run that would be replaced; give --name NAME for another"
        )


def prepare(
    settings: TrainSettings, progress: Progress
) -> tuple[keras.Model, Dataset, Replicas | None]:
    """Loads the images, seeds, and builds the float model that training starts from.

    Returns: that, the images with what their pixels become, and the replicas that settings ask for.
    Raises:
        KerasQuantError: a subclass says what does not fit.
    """
    dataset = load_images(settings)
    _check_updates(settings, dataset)
    use_threads(settings.threads)
    replicas = start_replicas(settings, dataset)
    _check_precision(settings)
    keras.utils.set_random_seed(settings.seed)
    source = _source(settings, dataset)
    _check_outputs(source, settings, dataset)
    behind = run_behind(settings.model, settings.parent)
    warn_of_seen(settings, behind)
    dataset = declare(
        dataset,
        asked=settings.preprocess,
        recorded=None if behind is None else behind.dataset.preprocess,
        model=source,
        say=progress.say,
    )
    if settings.keep_zeros:
        check_zeros(source, pruned_kernels(source))  # before there is a folder
    if settings.keep_clusters:
        describe_clusters(source)
    return source, dataset, replicas


def load_images(settings: TrainSettings) -> Dataset:
    """The images that a run is trained, validated and tested on.

    Raises:
        DataError: see `load_dataset`.
    """
    dataset = load_dataset(
        settings.dataset,
        seed=settings.chooses_validation,
        validation_fraction=settings.validation_fraction,
    )
    if not settings.bootstrap:
        return dataset
    return dataclasses.replace(dataset, train=drawn_again(dataset.train, seed=settings.seed))


def _check_updates(settings: TrainSettings, dataset: Dataset) -> None:
    """Checks that training moves weights at all.

    Raises:
        UsageError: gradients wait for more batches than there are.
    """
    steps = steps_per_epoch(len(dataset.train), settings.batch_size)
    if settings.accumulate > steps * settings.epochs:
        raise UsageError(
            f"--accumulate {settings.accumulate} waits for more batches than there are, so that no "
            f"weight would be moved: {len(dataset.train):,} training images are {steps:,} batches "
            f"an epoch, and --epochs is {settings.epochs}; 1 to {steps * settings.epochs:,} is "
            "allowed"
        )


def _source(settings: TrainSettings, dataset: Dataset) -> keras.Model:
    """The float model that training starts from; layers without a name get the same each time."""
    keras.backend.reset_uids()
    return build_float(
        settings.model,
        settings.model_options,
        dataset,
        settings.parent,
        trust=settings.trust,
        exits=settings.exits,
    )


def _check_precision(settings: TrainSettings) -> None:
    """Checks that TensorFlow computes what settings ask for, as the record says that it did.

    Raises:
        UsageError: it computes nothing in bfloat16.
    """
    if settings.precision == "bf16" and not has_gpu() and not can_rewrite():
        raise UsageError(
            "--precision bf16: TensorFlow computes in bfloat16 with oneDNN alone, which this build "
            "lacks, or TF_ENABLE_ONEDNN_OPTS=0 turns off; leave the option out"
        )


def _check_outputs(model: keras.Model, settings: TrainSettings, dataset: Dataset) -> None:
    """Checks that settings are for the outputs that a model has.

    Raises:
        UsageError: they are for others.
    """
    tasks = tasks_of_model(model, dataset)
    if (settings.distill or settings.self_distill) and set(tasks) != {CLASSIFICATION}:
        option = "--distill" if settings.distill else "--self-distill"
        raise UsageError(
            f"{option} is for models whose outputs are all of classes; {settings.model} has "
            f"{', '.join(tasks)}"
        )
    if settings.nested and tasks != (CLASSIFICATION,):
        raise UsageError(
            f"--nested and --slim are for models with one output, of classes; {settings.model} has "
            f"{', '.join(tasks)}"
        )
    if (settings.boosts is not None or settings.together) and tasks != (CLASSIFICATION,):
        raise UsageError(
            "members that are boosted, or trained at once, have one output, of classes; "
            f"{settings.model} has {', '.join(tasks)}"
        )
    outputs = settings.nested or model.output_names
    if (settings.self_distill or settings.orthogonal) and len(outputs) < 2:
        option = "--orthogonal" if settings.orthogonal else "--self-distill"
        raise UsageError(
            f"{option} is for models of several outputs; {settings.model} has one. Give it exits "
            "with --exits LAYER,LAYER"
        )
    if len(settings.loss_weights) not in (0, len(outputs)):
        raise UsageError(
            f"--loss-weights has {len(settings.loss_weights)} numbers; {settings.model} has "
            f"{len(outputs)} outputs: {', '.join(outputs)}"
        )


def train_unfinished(
    settings: TrainSettings,
    path: Path,
    *,
    command: tuple[str, ...],
    overwrite: bool,
    resume: bool,
    progress: Progress,
) -> TrainResult | None:
    """Trains one run of several: with resume, one that is finished is kept, others go on or begin.

    Returns: None where it was kept.
    Raises: as `train` and `finished`.
    """
    if resume and finished(path, settings):
        return None
    return train(
        settings,
        path,
        command=command,
        overwrite=overwrite,
        resume=resume and path.exists(),
        progress=progress,
    )


def finished(path: Path, settings: TrainSettings) -> bool:
    """Whether a folder holds a run of some settings that has come to its end.

    Raises:
        RunError: it holds one of other settings, or no run.
    """
    if not path.exists():
        return False
    begun = records.load(path)
    if begun.status != "exported":
        return False
    dataset = load_images(settings)
    asked = settings.preprocess
    becomes = begun.dataset.preprocess if asked is None else parse_preprocessing(asked)
    dataset = dataclasses.replace(dataset, preprocessing=becomes)
    expected = begin_record(settings, dataset, begun.float_layers, ())
    if differing := records.differing_settings(begun, expected):
        raise RunError(
            f"{path}: a finished run with other settings ({', '.join(differing)}); --overwrite "
            "trains it anew"
        )
    return True


@contextlib.contextmanager
def opened(
    path: Path, record: RunRecord, scheme: Scheme, *, overwrite: bool, resume: bool
) -> Iterator[tuple[RunFolder, RunRecord]]:
    """Makes the run's folder, or opens a stopped run's and gives the record that it began with."""
    found = runs.reopen(path) if resume else runs.create(path, overwrite=overwrite)
    with found as folder:
        if resume:
            record = begun(path, record, again="trains")
        else:
            records.save(record, folder.path)  # first: without it a folder is no run
        write_text(folder.scheme, scheme_to_yaml(scheme))
        yield folder, record


def made(
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    settings: TrainSettings,
    *,
    file: Path | None,
    progress: Progress,
) -> tuple[keras.Model, Statistics | None]:
    """Makes the model that is trained, with the statistics that it is made by.

    What it cannot have, and what of it cannot be lowered, is said before training, not after.

    Args:
        file: see `collected`.
    """
    statistics = collected(planned, source, dataset, settings, file, progress)
    model = _quantized(source, settings, statistics)
    lower(model)
    check_held(model, settings, progress)
    return model, statistics


def check_schemes(settings: TrainSettings, schemes: Sequence[Scheme]) -> None:
    """Checks that the model can be quantized by several schemes, before it is trained by the first.

    Each is made once, of a few images' statistics, and lowered.

    Raises:
        KerasQuantError: as `train`.
    """
    check(settings)
    source, dataset, _ = prepare(settings, Progress(quiet=True))
    every = max(1, len(dataset.train) // FEW_IMAGES)  # a folder's come class by class
    dataset = dataclasses.replace(dataset, train=dataset.train.at(slice(None, None, every)))
    for scheme in schemes:
        each = dataclasses.replace(settings, scheme=scheme)
        planned = plan(source, scheme)
        made(planned, source, dataset, each, file=None, progress=Progress(quiet=True))


def collected(
    planned: Plan,
    source: keras.Model,
    dataset: Dataset,
    settings: TrainSettings,
    file: Path | None,
    progress: Progress,
) -> Statistics | None:
    """Collects statistics, or reads those of an earlier start of the run; a float run has none.

    Args:
        file: of the earlier start, where there was one that came so far.
    """
    if is_float(settings.scheme):
        return None
    if file is not None and file.exists():
        return read_statistics(file, planned, source, dataset)
    return collect_statistics(
        planned, source, dataset, fresh=not settings.has_weights, progress=progress
    )


def keep_statistics(statistics: Statistics | None, file: Path) -> None:
    """Writes statistics into the run's folder, where they are not there. Raises: FileError."""
    if statistics is not None and not file.exists():
        save_statistics(statistics, file)


def _quantized(
    source: keras.Model, settings: TrainSettings, statistics: Statistics | None
) -> keras.Model:
    if statistics is None:
        return source
    return quantize(source, settings.scheme, statistics, settings.method)


def train_model(
    model: keras.Model,
    source: keras.Model,
    make: Callable[[keras.Model], keras.Model],
    teacher: Teacher | None,
    dataset: Dataset,
    settings: TrainSettings,
    folder: RunFolder,
    *,
    replicas: Replicas | None = None,
    resume: bool,
    progress: Progress,
) -> None:
    """Trains; on a NaN loss the last good weights are saved before the error goes on.

    Args:
        source: the float model that it was made of.
        make: makes it of a float one; of another, that computes in bfloat16 on a GPU or belongs to
            replicas, too.
        teacher: see `teacher_of`.
        replicas: that train together; None for one.
    Raises:
        TrainingError: see `train_epochs`.
    """
    trained = model
    by_policy = settings.precision == "bf16" and has_gpu()
    if settings.precision == "bf16" and not by_policy:
        _say_where_bfloat16_gains_little(source, progress)
    if by_policy or replicas is not None:
        with _policy(by_policy), replicas.strategy.scope() if replicas else nullcontext():
            twin = _source(settings, dataset)
            twin.set_weights(source.get_weights())
            trained = make(twin)
        trained.set_weights(model.get_weights())
    if replicas is not None:
        weights_of_chief(trained, replicas)
    try:
        train_epochs(
            model,
            trained,
            dataset,
            loop_settings(settings, dataset, folder),
            teacher=teacher,
            replicas=replicas,
            folder=folder.path,
            resume=resume,
            progress=progress,
        )
    except TrainingError:
        save_model(model, folder.model)
        raise
    reestimate(model, dataset, settings, progress)


def check_held(model: keras.Model, settings: TrainSettings, progress: Progress) -> None:
    """Checks that a model has what settings ask to be held.

    Raises:
        UsageError: it has no codes that could be frozen, no clusters, or no zeros.
    """
    if settings.freeze_oscillations and not freezable(model):
        raise UsageError(
            "--freeze-oscillations holds codes of kernels with learned steps, and no layer of this "
            "scheme has one: give --method lsq"
        )
    if settings.keep_clusters:
        progress.say(describe_clusters(model))
    if settings.keep_zeros:
        pruned = pruned_kernels(model)
        check_zeros(model, pruned)
        held = sum(int((~each.kept).sum()) for each in pruned)
        total = sum(each.kept.size for each in pruned)
        progress.say(f"holding {held:,} of {total:,} weights of {len(pruned)} kernels at 0")


def loop_settings(settings: TrainSettings, dataset: Dataset, folder: RunFolder) -> LoopSettings:
    """How the loop is to train what settings ask for."""
    return LoopSettings(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        augment=augments(settings, dataset),
        optimizer=settings.optimizer,
        patience=settings.patience,
        tensorboard=folder.tensorboard if settings.tensorboard else None,
        distill=settings.distill,
        accumulate=settings.accumulate,
        freeze_oscillations=settings.freeze_oscillations,
        keep_clusters=settings.keep_clusters,
        keep_zeros=settings.keep_zeros,
        bfloat16=settings.precision == "bf16" and not has_gpu(),  # which takes the policy
        loss_weights=settings.loss_weights,
        self_distill=settings.self_distill,
        orthogonal=settings.orthogonal,
        boosted=0.0 if settings.boosts is None else settings.shrinkage,
    )


def reestimate(
    model: keras.Model, dataset: Dataset, settings: TrainSettings, progress: Progress
) -> None:
    """Measures the statistics of batch norms again, where settings ask for it.

    On images that are flipped and cropped as those of the epochs: of others, answers lose accuracy.
    """
    if settings.reestimate_norms:
        batches = TrainBatches(
            dataset,
            batch_size=settings.batch_size,
            seed=settings.seed,
            augment=augments(settings, dataset),
        )
        further = batches(settings.epochs).take(max(1, NORM_IMAGES // batches.batch_size))
        restart_random_layers(model, seed=settings.seed, epoch=settings.epochs)
        count = reestimate_norms(model, (images.numpy() for images, *_ in further))
        progress.say(f"measured the statistics of {count} batch norms again")


def augments(settings: TrainSettings, dataset: Dataset) -> bool:
    """Whether training images are flipped and cropped."""
    return dataset.augment if settings.augment is None else settings.augment


def teacher_of(settings: TrainSettings, source: keras.Model, dataset: Dataset) -> Teacher | None:
    """Whose answers are learned: those of the models named, of the parent, or of the float model.

    A parent of few bits answers otherwise than the float model that has its weights.
    Of a boosted member: those of the members before it, of which it learns the rest.
    """
    if settings.boosts is not None:
        if not settings.boosts:
            return none_before(dataset.num_classes)
        return load_sum(settings.boosts, settings.shrinkage, dataset)
    if not settings.distill:
        return None
    teachers = settings.teachers or _quantized_parent(settings)
    if not teachers:
        return of_logits(source, dataset)
    return load_teacher(teachers, dataset, trust=settings.trust)


def _quantized_parent(settings: TrainSettings) -> tuple[Path, ...]:
    """The parent, if it was quantized."""
    if settings.parent is None:
        return ()
    training = records.load(settings.parent).training
    return () if training and training.method == "float" else (settings.parent,)


def _say_where_bfloat16_gains_little(model: keras.Model, progress: Progress) -> None:
    """Says of a CPU, or of a model, that it is not faster in bfloat16."""
    if not BFLOAT16_FLAGS & instructions():
        progress.say(
            "this processor has no instructions for bfloat16 (avx512_bf16, amx_bf16 or bf16): "
            "--precision bf16 will not be faster than float32"
        )
    depthwise = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    if any(isinstance(layer, depthwise) for layer in layers_by_name(model).values()):
        progress.say(
            "depthwise convolutions stay float32: with such a net --precision bf16 takes about as "
            "long as float32, or longer"
        )


@contextlib.contextmanager
def _policy(bfloat16: bool) -> Iterator[None]:
    """Lets layers made within compute in bfloat16 where it is asked for, with float32 weights."""
    before = keras.mixed_precision.global_policy()
    if bfloat16:
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)

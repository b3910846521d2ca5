"""What `kq train` is asked for: ranges, checks, and the record that a run begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_quant.data import Dataset
from keras_quant.errors import UsageError
from keras_quant.jobs.begin import describe_data, now
from keras_quant.methods import DEFAULT_METHOD, load_method
from keras_quant.methods.rules import check_methods
from keras_quant.model.suffixes import is_keras_model
from keras_quant.runs import RunFolder, records
from keras_quant.runs.records import ModelRecord, RunRecord, TrainingRecord
from keras_quant.schemes.file import scheme_to_dict
from keras_quant.schemes.scheme import Scheme, is_float
from keras_quant.training.optimizer_settings import OptimizerSettings
from keras_quant.version import __version__

PRECISIONS = ("float32", "bf16")
STRATEGIES = ("mirrored", "multiworker")
TOGETHER = ("fusion", "soft-boosting")
"""How members may be trained at once, see `jobs.train_together`."""
NESTABLE = ("nested", "lsq", "pact", "dorefa")  # methods whose kernels widths can share
MAX_SEED = 2**32 - 1  # NumPy's legacy generator takes no larger one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """What `kq train` is asked for.

    Attributes:
        model: a name of the zoo, "FILE.py:FUNCTION", or a Keras file, from whose weights
            training starts.
        model_options: options of the zoo's model.
        exits: names of layers that an early exit hangs on, see `zoo.exits`.
        dataset: a name, a .npz file or an image folder.
        validation_fraction: share of the training images that epochs are judged on.
        scheme: which layer gets how many bits.
        method: a name of METHODS.
        augment: flips and crops; None means the dataset's default.
        patience: see LoopSettings.
        precision: of the arithmetic of training; weights and evaluation are float32.
        parent: run folder whose weights training starts from.
        distill: share of the teacher's answers in the loss, 0 to 1; see `distill`.
        teachers: runs' folders, Keras files, or one ensemble's folder, see `load_teacher`; ()
            means the parent.
        accumulate: batches whose gradients are averaged for one update.
        freeze_oscillations: hold weights whose codes turn back too often; needs learned steps.
        keep_clusters: move weights that are equal before training alike; needs clustered kernels.
        keep_zeros: hold weights that are 0 before training; needs some.
        reestimate_norms: measure statistics of batch norms again at the end, see `training.norms`.
        self_distill: share of the last output's answers that earlier ones learn beside the labels;
            see `training.exits`.
        orthogonal: keep the gradients of several outputs apart; likewise.
        split_seed: chooses the validation images; None means the seed.
        bootstrap: train on images drawn with replacement, as many as there are.
        boosts: runs; what their sum leaves of the labels is learned, see `training.boosting`; ()
            for the first member, None means the labels themselves.
        shrinkage: of each member in a boosted sum, above 0, to 1.
        together: one of TOGETHER, for a member that is trained at once with others; "" for others.
        members: the runs that are trained at once.
        nested: names of several widths that are trained as one, the widest first, whose scheme is
            `scheme`; see `jobs.nested`.
        share: of the channels of the model, the first ones of each layer, where it is such a width.
        preprocess: what pixels become in front of the model, see `parse_preprocessing`; None
            means as the parent, or the model's first layers, say.
        loss_weights: of the outputs' losses, in the model's order; () weighs all by 1.
        threads: that TensorFlow computes with; 0 means one a core. Sums are split over them, so
            that a run of another number of threads differs in its last bits, and then in more.
        strategy: "" for this process and one device, or one of STRATEGIES.
        workers: HOST:PORT of each process of multiworker; () means TF_CONFIG.
        worker: which of them this is, from 0; the first is the chief, which writes the run.
        worker_timeout_seconds: until when all have to be there.
        tensorboard: write TensorBoard event files into the run's folder.
        trust: load a Keras file that holds code.
    """

    scheme: Scheme
    model: str = "cnn"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    exits: tuple[str, ...] = ()
    dataset: str = "digits"
    validation_fraction: float = 0.1
    method: str = DEFAULT_METHOD
    epochs: int = 20
    batch_size: int = 128
    seed: int = 0
    augment: bool | None = None
    patience: int = 0
    precision: str = "float32"
    parent: Path | None = None
    distill: float = 0.0
    teachers: tuple[Path, ...] = ()
    accumulate: int = 1
    freeze_oscillations: bool = False
    keep_clusters: bool = False
    keep_zeros: bool = False
    reestimate_norms: bool = False
    self_distill: float = 0.0
    orthogonal: bool = False
    split_seed: int | None = None
    bootstrap: bool = False
    boosts: tuple[Path, ...] | None = None
    shrinkage: float = 1.0
    together: str = ""
    members: tuple[Path, ...] = ()
    nested: tuple[str, ...] = ()
    share: float = 1.0
    preprocess: str | None = None
    loss_weights: tuple[float, ...] = ()
    threads: int = 0
    strategy: str = ""
    workers: tuple[str, ...] = ()
    worker: int | None = None
    worker_timeout_seconds: float = 60.0
    tensorboard: bool = False
    trust: bool = False
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)

    @property
    def is_file(self) -> bool:
        """Whether the model is a Keras file, and has weights of its own."""
        return is_keras_model(Path(self.model))

    @property
    def has_weights(self) -> bool:
        """Whether training starts from weights that were trained before."""
        return self.is_file or self.parent is not None

    @property
    def chooses_validation(self) -> int:
        """The seed of the split."""
        return self.seed if self.split_seed is None else self.split_seed

    def problems(self) -> list[str]:
        """What is out of range, one text each."""
        found = [
            f"{option} is {value}; 1 or more is allowed"
            for option, value in (
                ("--epochs", self.epochs),
                ("--batch-size", self.batch_size),
                ("--accumulate", self.accumulate),
            )
            if value < 1
        ]
        if self.patience < 0:
            found.append(f"--early-stopping is {self.patience}; 0 (off) or more is allowed")
        if self.threads < 0:
            found.append(f"--threads is {self.threads}; 0 (one a core) or more is allowed")
        if not 0 < self.validation_fraction < 1:
            found.append(
                f"--validation-fraction is {self.validation_fraction}; between 0 and 1 is allowed"
            )
        if not 0 <= self.distill <= 1:
            found.append(f"--distill is {self.distill}; 0 (labels alone) to 1 is allowed")
        if self.distill and not self.teachers and (not self.has_weights or is_float(self.scheme)):
            found.append(
                "--distill needs a parent, given with --from RUN or as a Keras file, and a scheme "
                "with bits, or a teacher, --distill FILE or RUN"
            )
        for first, again in _repeated(self.teachers):
            found.append(
                f"--distill names {first} and {again}, which are one model; name each teacher once"
            )
        if not 0 <= self.self_distill <= 1:
            found.append(f"--self-distill is {self.self_distill}; 0 (labels alone) to 1 is allowed")
        if self.self_distill and self.distill:
            found.append("--self-distill and --distill both say whose answers are learned")
        if not 0 < self.shrinkage <= 1:
            found.append(f"--shrinkage is {self.shrinkage}; above 0, up to 1 is allowed")
        if any(not 0 <= weight < float("inf") for weight in self.loss_weights):
            found.append(f"--loss-weights is {self.loss_weights}; numbers of 0 or more are allowed")
        elif self.loss_weights and not any(self.loss_weights):
            found.append("--loss-weights are all 0, by which nothing is learned; give one above 0")
        for option, seed in (("--seed", self.seed), ("--split-seed", self.chooses_validation)):
            if not 0 <= seed <= MAX_SEED:
                found.append(f"{option} is {seed}; 0 to {MAX_SEED} is allowed")
                break
        if (":" in self.model or self.is_file) and self.model_options:
            found.append(f"--option is for models of the zoo; {self.model} takes none")
        if self.nested and self.method not in NESTABLE and not is_float(self.scheme):
            found.append(
                "--nested and --slim share one set of kernels, which --method "
                f"{self.method} has no way to; allowed: {', '.join(NESTABLE)}"
            )
        if self.nested and self.freeze_oscillations:
            found.append(
                "--freeze-oscillations holds codes of one width: leave out --nested and --slim"
            )
        if self.keep_clusters and self.freeze_oscillations:
            found.append(
                "--freeze-oscillations holds weights one by one, and --keep-clusters moves those "
                "of a cluster together: give one of them"
            )
        if self.precision not in PRECISIONS:
            found.append(f"--precision is {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        return [*found, *self._problems_of_strategy(), *self.optimizer.problems()]

    def _problems_of_strategy(self) -> list[str]:
        if self.strategy not in ("", *STRATEGIES):
            return [f"--strategy is {self.strategy!r}; allowed: {', '.join(STRATEGIES)}"]
        found = []
        if self.strategy != "multiworker" and (self.workers or self.worker is not None):
            found.append("--workers and --worker are for --strategy multiworker")
        if not 0 < self.worker_timeout_seconds < float("inf"):
            found.append(
                f"--worker-timeout is {self.worker_timeout_seconds}; more than 0 is allowed"
            )
        alone = {
            "--accumulate": self.accumulate > 1,
            "--self-distill": bool(self.self_distill),
            "--orthogonal": self.orthogonal,
            "--nested and --slim": bool(self.nested),
            "members that learn from each other": bool(self.together) or self.boosts is not None,
        }
        if self.strategy and (given := [option for option, on in alone.items() if on]):
            found.append(
                f"{', '.join(given)}: not with --strategy, as what is done with gradients there is "
                "written for one replica"
            )
        return found


def _repeated(models: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of paths that stand for one model: of each a run's folder, or a file."""
    found: dict[Path, Path] = {}
    for path in models:
        file = (RunFolder(path).model if path.is_dir() else path).resolve()
        if file in found:
            yield found[file], path
        found.setdefault(file, path)


def check(settings: TrainSettings) -> None:
    """Reports everything that is wrong with settings.

    Raises:
        UsageError: values that are out of range, or methods or options that are not known.
    """
    problems = settings.problems()
    if problems:
        raise UsageError("; ".join(problems))
    if not is_float(settings.scheme):
        load_method(settings.method)
        check_methods(settings.scheme)


def begin_record(
    settings: TrainSettings,
    dataset: Dataset,
    float_layers: tuple[str, ...],
    command: tuple[str, ...],
    *,
    replicas: int = 1,
) -> RunRecord:
    """The record of a run that is about to begin.

    Args:
        replicas: that train it together.
    """
    optimizer = dataclasses.asdict(settings.optimizer)
    schedule = {key: optimizer.pop(key) for key in ("schedule", "warmup_epochs")}
    return RunRecord(
        command=command,
        created=now(),
        kq_version=__version__,
        model=ModelRecord(
            name=settings.model,
            options=dict(settings.model_options),
            exits=settings.exits,
            share=settings.share,
        ),
        dataset=describe_data(dataset, settings.validation_fraction),
        training=TrainingRecord(
            method="float" if is_float(settings.scheme) else settings.method,
            seed=settings.seed,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            optimizer=optimizer,
            schedule=schedule,
            precision=settings.precision,
            augment=dataset.augment if settings.augment is None else settings.augment,
            patience=settings.patience,
            parent=None if settings.parent is None else str(settings.parent),
            distill=settings.distill,
            teacher=",".join(map(str, settings.teachers)) or None,
            accumulate=settings.accumulate,
            freeze_oscillations=settings.freeze_oscillations,
            keep_clusters=settings.keep_clusters,
            keep_zeros=settings.keep_zeros,
            reestimate_norms=settings.reestimate_norms,
            loss_weights=settings.loss_weights,
            threads=settings.threads,
            split_seed=settings.split_seed,
            bootstrap=settings.bootstrap,
            self_distill=settings.self_distill,
            orthogonal=settings.orthogonal,
            strategy=settings.strategy,
            replicas=replicas,
            boosts=None if settings.boosts is None else tuple(map(str, settings.boosts)),
            shrinkage=settings.shrinkage,
            together=settings.together,
            members=tuple(map(str, settings.members)),
            nested=settings.nested,
        ),
        scheme=scheme_to_dict(settings.scheme),
        float_layers=float_layers,
        status="training",
        versions=records.versions(),
        environment=records.environment(),
    )

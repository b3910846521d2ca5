"""What a run was made of and what came out: one JSON file that every command understands."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_quant.errors import RunError, shown
from keras_quant.files import write_json
from keras_quant.json_codec import from_plain, to_json
from keras_quant.preprocessing import Preprocessing

FORMAT_VERSION = 1
FILE_NAME = "run.json"
_REMEDY = "Restore it from a copy, or make the run again with --overwrite."
# What a run is trained with; runs that agree in them can be taken for each other.
SETTINGS = ("model", "dataset", "training", "quantization", "scheme")
# Fields of a training that decide over nothing but the order of sums.
ROUNDING = ("threads", "strategy", "replicas")
# Figures that are shares of images, in %, and those that count or measure something, so are not
# below 0; by name or by unit. No other figure is held to more than being a number of float32, as
# what it was computed from.
_SHARES = ("accuracy", "top-5", "top-1 agreement")
_NOT_NEGATIVE = ("size", "gzip size", "logical size", "parameters", "MACs", "bit operations")
_NOT_NEGATIVE_UNITS = ("bytes", "bits", "nJ", "%")
_LARGEST = 3.4028234663852886e38  # of float32, IEEE 754: (2 - 2**-23) * 2**127
STATUSES = ("training", "trained", "quantizing", "quantized", "exported")

# Whatever can change a figure; the names that the package index knows.
RECORDED_PACKAGES = (
    "tensorflow",
    "tf_keras",
    "qkeras",
    "tensorflow-model-optimization",
    "ai-edge-litert",
    "numpy",
    "scikit-learn",
    "pillow",
)

# What decides how fast integer kernels are: VNNI on x86, dot products on Arm. The names are
# those of /proc/cpuinfo.
CPU_FLAGS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured or counted number.

    Attributes:
        name: what was measured: "accuracy", "size", ...
        unit: "%", "bytes", "images", "ms", ...; "" for a pure number.
        split: the part of the dataset it was measured on: "train", "validation", "test"; ""
            where no data was involved.
        notes: what a reader has to know to repeat it: which file, how many threads, ...
    """

    name: str
    value: float
    unit: str = ""
    split: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Which network was trained.

    Attributes:
        name: a name of the zoo, or "file.py:function".
        options: the options it was built with.
        exits: names of the layers that early exits were hung on.
        share: of the channels, the first ones of each layer, where it is a net within a net.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    exits: tuple[str, ...] = ()
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """Which images were used.

    Attributes:
        source: where they came from: a path, a package, an address.
        sizes: number of images of each split.
        input_shape: (height, width, channels), or (features,).
        num_classes: labels are 0 .. num_classes - 1; 0 where there are no labels.
        has_labels: whether anything says what is in the images; if not, nothing is right or wrong,
            and no accuracy is among the figures.
        preprocess: what becomes of pixels in front of the model; None for float data as they are.
        validation_fraction: share of the training images that was held out.
    """

    name: str
    source: str
    sizes: Mapping[str, int]
    input_shape: tuple[int, ...]
    num_classes: int
    has_labels: bool = True
    preprocess: Preprocessing | None = None
    validation_fraction: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """How the run was trained.

    Attributes:
        method: "qkeras", "float", ...
        epochs: epochs asked for.
        optimizer: its name and settings.
        schedule: its name and settings.
        precision: "float32" or "bf16".
        augment: whether images were flipped and cropped at random.
        patience: epochs without gain after which training stopped; 0 for never.
        parent: the run whose weights training started from.
        distill: share of the teacher's answers in the loss; 0 for the labels alone.
        teacher: a run or file, or several with commas between them, see `load_teacher`; None for
            the parent.
        accumulate: batches whose gradients were averaged for one update.
        freeze_oscillations: whether weights whose codes turned back too often were held.
        keep_clusters: whether weights that were equal before training were moved alike.
        keep_zeros: whether weights that were 0 before training were held.
        reestimate_norms: whether statistics of batch norms were measured again at the end.
        loss_weights: of the outputs' losses; () where all have 1.
        threads: that TensorFlow computed with; 0 for one a core, see `environment`.
        split_seed: what chose the validation images; None for the seed.
        bootstrap: whether training images were drawn with replacement.
        self_distill: share of the last output's answers that earlier ones learned.
        orthogonal: whether gradients of outputs were kept apart.
        boosts: the runs whose sum leaves a rest of the labels, which was learned; () for a first
            member, None where labels themselves were learned.
        shrinkage: of each member in a boosted sum.
        together: how it was trained at once with others, one of `train_settings.TOGETHER`; "" for
            a run that was trained alone.
        members: the runs that were trained at once, in their order.
        nested: names of the widths that were trained as one, the widest first; () for one alone.
        strategy: "mirrored" or "multiworker" where several replicas trained it; "" for one device.
        replicas: how many; each had an equal share of every batch.
    """

    method: str
    seed: int
    epochs: int
    batch_size: int
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    augment: bool = False
    patience: int = 0
    parent: str | None = None
    distill: float = 0.0
    teacher: str | None = None
    accumulate: int = 1
    freeze_oscillations: bool = False
    keep_clusters: bool = False
    keep_zeros: bool = False
    reestimate_norms: bool = False
    loss_weights: tuple[float, ...] = ()
    threads: int = 0
    split_seed: int | None = None
    bootstrap: bool = False
    self_distill: float = 0.0
    orthogonal: bool = False
    boosts: tuple[str, ...] | None = None
    shrinkage: float = 1.0
    together: str = ""
    members: tuple[str, ...] = ()
    nested: tuple[str, ...] = ()
    strategy: str = ""
    replicas: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Lift:
    """A layer that was left at 8 bits, since the model lost too much.

    Attributes:
        layer: its name.
        before: points that the model was short of the float one, on images held out.
        after: likewise, with this layer at 8 bits.
    """

    layer: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRecord:
    """How rounding was learned.

    Attributes:
        steps: for each layer or block.
        drop: share of the values that were taken before they were rounded.
        seed: of what was drawn.
    """

    steps: int
    drop: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationRecord:
    """How a run's model was quantized without training.

    Attributes:
        source: what was quantized: a run, a Keras file, or a model's name.
        method: "qkeras", ...
        calibrator: what chose the scales and zero points of activations.
        images: how many training images these were chosen on.
        statistics: the file in which their statistics were given; None where they were collected.
        equalize: how channels were scaled before.
        rounding: how kernels were rounded.
        bias: how biases were corrected.
        learning: how rounding was learned; None where it was not.
        data: "train", or "none" where ranges came from batch norms, without images.
        absorb: whether high biases were absorbed before.
        reestimate_norms: whether statistics of batch norms were measured again at the end.
        max_drop: points that might be lost; None where nobody asked.
        held_out: validation images on which that was measured, taken from the training images.
        lifts: the layers that were left at 8 bits for it, in order.
        lost: points that were lost in the end, on the same images.
    """

    source: str
    method: str
    calibrator: str
    images: int
    seed: int
    statistics: str | None = None
    equalize: str = "none"
    rounding: str = "nearest"
    bias: str = "analytical"
    learning: LearningRecord | None = None
    data: str = "train"
    absorb: bool = False
    reestimate_norms: bool = False
    max_drop: float | None = None
    held_out: int = 0
    lifts: tuple[Lift, ...] = ()
    lost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Everything needed to repeat a run, and its figures.

    Attributes:
        command: the arguments of the process that made the run.
        created: local time with offset, ISO 8601.
        kq_version: version of keras_quant that wrote the record.
        training: None for a run that was quantized only.
        quantization: None for a run that was trained.
        scheme: the resolved scheme, as its YAML file has it.
        float_layers: layers that the scheme left in float.
        status: one of STATUSES.
        versions: see `versions`.
        environment: see `environment`.
    """

    command: tuple[str, ...]
    created: str
    kq_version: str
    model: ModelRecord
    dataset: DatasetRecord
    scheme: Mapping[str, Any]
    status: str
    training: TrainingRecord | None = None
    quantization: QuantizationRecord | None = None
    float_layers: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def seed(self) -> int:
        """What first weights and the order of images were drawn with."""
        made = self.training or self.quantization
        assert made is not None
        return made.seed

    @property
    def split_seed(self) -> int:
        """What chose the validation images."""
        if self.training is not None and self.training.split_seed is not None:
            return self.training.split_seed
        return self.seed


def save(record: RunRecord, folder: str | Path) -> Path:
    """Writes a record into a run folder that exists.

    Returns: the file.
    Raises:
        FileError: the system refuses.
    """
    path = Path(folder) / FILE_NAME
    write_json(path, record)
    return path


def load(folder: str | Path) -> RunRecord:
    """Reads the record of a run folder.

    Raises:
        RunError: the folder or its record is missing, broken, or of a newer format; or a figure is
            none that can be.
    """
    path = Path(folder) / FILE_NAME
    content = _read(path)
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RunError(
            f"{path}: written by a newer kq (format {version}; this one reads up to "
            f"{FORMAT_VERSION}). Upgrade: pip install --upgrade keras_quant"
        )
    problems: list[str] = []
    record = from_plain(content, RunRecord, problems)
    if record is not None and record.status not in STATUSES:
        problems.append(f"status: is {shown(record.status)}; allowed are {', '.join(STATUSES)}")
    if record is not None and (record.training is None) == (record.quantization is None):
        problems.append("one of training and quantization is needed, and not the other")
    if record is not None and min(record.dataset.input_shape, default=0) < 1:
        problems.append(
            f"dataset.input_shape: is {list(record.dataset.input_shape)}; sides are 1 or more"
        )
    if record is not None:
        problems += _figure_problems(record.figures)
    if record is not None and record.dataset.preprocess is not None:
        wrong = record.dataset.preprocess.problems()
        problems += [f"dataset.preprocess.{problem}" for problem in wrong]
    if record is None or problems:
        lines = "\n".join(f"{path}: {problem}" for problem in problems)
        raise RunError(f"{lines}\n{_REMEDY}")
    return record


def _figure_problems(figures: Sequence[Figure]) -> Iterator[str]:
    """Says which figures cannot be, each with what is allowed."""
    for place, one in enumerate(figures):
        low, high, allowed = -_LARGEST, _LARGEST, f"a finite number, {_LARGEST:.2g} at most, is"
        if one.name in _SHARES:
            low, high, allowed = 0, 100, "0 to 100 % are"
        elif one.name in _NOT_NEGATIVE or one.unit in _NOT_NEGATIVE_UNITS:
            low, allowed = 0, f"0 to {_LARGEST:.2g} are"
        if not low <= one.value <= high:  # so for NaN, too
            of = f" ({one.notes})" if one.notes else ""
            yield (
                f"figures[{place}].value: {one.name}{of} is {shown(one.value)} {one.unit}".rstrip()
                + f"; {allowed} allowed"
            )


def differing_settings(a: RunRecord, b: RunRecord) -> list[str]:
    """Names of the fields among SETTINGS in which two records differ, in more than ROUNDING."""
    plain = [{name: _without_rounding(getattr(r, name)) for name in SETTINGS} for r in (a, b)]
    return [name for name in SETTINGS if plain[0][name] != plain[1][name]]


def _without_rounding(settings: object) -> Any:
    plain = json.loads(to_json(settings))
    if isinstance(settings, TrainingRecord):
        return {name: value for name, value in plain.items() if name not in ROUNDING}
    return plain


def differing_rounding(a: RunRecord, b: RunRecord) -> list[str]:
    """What differs between two records, or their machines, that decides over last bits of sums.

    Returns: "NAME A, now B" each.
    """
    names = ["cpu_instructions", "onednn"]
    if a.training is None or not a.training.threads:
        names.append("cores")
    pairs: list[tuple[str, str | None, str | None]] = [
        (name, a.environment.get(name), b.environment.get(name)) for name in names
    ]
    if a.training and b.training:
        pairs += [
            (name, _worded(getattr(a.training, name)), _worded(getattr(b.training, name)))
            for name in ROUNDING
        ]
    return [f"{name} {old}, now {new}" for name, old, new in pairs if old != new]


def _worded(setting: int | str) -> str:
    return "none" if setting == "" else str(setting)


def versions() -> dict[str, str]:
    """Versions of the installed ones among RECORDED_PACKAGES; imports none of them."""
    installed = {}
    for package in RECORDED_PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def environment() -> dict[str, str]:
    """Says what this process runs on.

    Returns: python, platform, cpu, cpu_instructions (those of CPU_FLAGS that it has), cores;
        "unknown" where the system does not say; and onednn, what TF_ENABLE_ONEDNN_OPTS says, which
        decides with whose kernels TensorFlow computes.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **processor(_cpuinfo(), otherwise=platform.processor() or platform.machine()),
        "cores": str(os.cpu_count() or "unknown"),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def instructions() -> frozenset[str]:
    """Which of CPU_FLAGS this processor has; none where the system does not say."""
    return frozenset(processor(_cpuinfo())["cpu_instructions"].split(", ")) & {*CPU_FLAGS}


def processor(cpuinfo: str, *, otherwise: str = "") -> dict[str, str]:
    """What the text of /proc/cpuinfo says.

    Args:
        otherwise: what to call a processor that has no name in it.
    Returns: cpu and cpu_instructions, as `environment` has them.
    """
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    flags = facts.get("flags", facts.get("Features", "")).split()  # Features on Arm
    return {
        "cpu": facts.get("model name") or otherwise or "unknown",
        "cpu_instructions": ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "unknown",
    }


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a run's record."""
    if not path.parent.is_dir():
        what = "is a file, not a run's folder" if path.parent.exists() else "no such run folder"
        raise RunError(f"{path.parent}: {what}. kq train and kq quantize make runs.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{path.parent}: not a run folder: it has no {FILE_NAME}. kq train and kq quantize "
            "make runs."
        ) from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}. {_REMEDY}") from error
    except (ValueError, RecursionError) as error:  # broken JSON, not UTF-8, nested too deep
        raise RunError(f"{path}: not JSON ({error}). {_REMEDY}") from error
    if not isinstance(content, dict):
        raise RunError(
            f"{path}: holds a {type(content).__name__}; a run's record is an object. {_REMEDY}"
        )
    return content

"""Several widths trained as one: a run for each, and one for what they share.

Each step runs all widths (`training.nested`). Afterwards each is a run as any other, evaluated,
exported and proven by itself. The run that trained them has the history of the training, the float
net of their kernels with the norms of the widest, and, where all codes are parts of the widest's,
`widths.kqnested`: the graphs of all in one file, each kernel once (`graph.nested`).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.calibration.collect import Statistics
from keras_quant.calibration.quantize import quantize
from keras_quant.data import Dataset
from keras_quant.errors import GraphError, RunError, UsageError
from keras_quant.files import atomic_write
from keras_quant.graph.nested import FILE_NAME, pack_nested
from keras_quant.graph.store import load_graph
from keras_quant.jobs.finish import finish
from keras_quant.jobs.train import (
    TrainResult,
    check_held,
    check_starts_elsewhere,
    collected,
    finished,
    keep_statistics,
    opened,
    prepare,
    teacher_of,
    train_model,
)
from keras_quant.jobs.train_settings import TrainSettings, begin_record, check
from keras_quant.lower import lower
from keras_quant.prepare import Plan, plan
from keras_quant.proof.formats import FORMATS
from keras_quant.runs import RunFolder, check_free, records
from keras_quant.runs.folder import delete
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import Figure, RunRecord
from keras_quant.schemes.file import load_scheme
from keras_quant.schemes.scheme import Scheme
from keras_quant.tf import keras
from keras_quant.training import checkpoint
from keras_quant.training.nested import copy_width, float_twin, join_widths
from keras_quant.training.slim import narrow_net


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Width:
    """One of the nets that are trained as one.

    Attributes:
        name: follows that of the run that trains all.
        scheme: which layer has how many bits.
        share: of the channels, the first ones of each layer; see `training.slim`.
    """

    name: str
    scheme: Scheme
    share: float = 1.0


def widths_of_bits(schemes: Sequence[Scheme]) -> tuple[Width, ...]:
    """A width for each of several schemes, the widest first."""
    return tuple(Width(name=scheme.name, scheme=scheme) for scheme in schemes)


def widths_of_channels(scheme: Scheme, shares: Sequence[float]) -> tuple[Width, ...]:
    """A width for each of several shares of the channels, the widest first, which is 1.

    Raises:
        UsageError: two shares are so near that their runs would have one name.
    """
    named: dict[str, float] = {}
    for share in sorted(shares, reverse=True):
        name = _share_name(share)
        if name in named:
            raise UsageError(
                f"--slim: {share} and {named[name]} would both be the run {name}; give shares that "
                "differ in their first six digits"
            )
        named[name] = share
    return tuple(Width(name=name, scheme=scheme, share=share) for name, share in named.items())


def _share_name(share: float) -> str:
    """What a width with a share of the channels is called."""
    return f"x{share:g}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedResult:
    """What came of several widths that were trained as one.

    Attributes:
        joint: the run that trained them.
        widths: the run of each, the widest first.
        file: the graphs of all, each kernel once; None where they have no codes in common.
        file_bytes: its size.
        graph_bytes: of the same graphs, a file each.
    """

    joint: Path
    widths: tuple[TrainResult, ...]
    file: Path | None
    file_bytes: int
    graph_bytes: int


def train_nested(
    settings: TrainSettings,
    widths: Sequence[Width],
    path: Path,
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> NestedResult | None:
    """Trains several widths as one, then evaluates, exports and proves each.

    Args:
        settings: of all widths, but for scheme and share; weights of losses are in their order.
        widths: the widest first, with all channels.
        path: the folder of the run that trains them; that of a width has its name behind.
        resume: go on after the last epoch that is done; after all of them, the widths are made
            anew.
    Returns: None where all was finished, with resume.
    Raises:
        UsageError: a method, a model or options that widths cannot share.
        RunError: a width's run is there already, and neither overwrite nor resume is given.
        KerasQuantError, ParityError: as `train`.
    """
    joint = dataclasses.replace(
        settings, scheme=widths[0].scheme, nested=tuple(width.name for width in widths)
    )
    folders = [width_path(path, width.name) for width in widths]
    check(joint)
    for each in (path, *folders):
        check_starts_elsewhere(joint, each)
    described = dataclasses.replace(joint, scheme=load_scheme("float"))
    if resume and finished(path, described):
        return None
    replaced = _earlier(path, folders, overwrite=overwrite, resume=resume)
    resume = resume and path.exists()
    source, dataset, _ = prepare(joint, progress)
    plans = {width.name: plan(_source_of(source, width), width.scheme) for width in widths}
    teacher = teacher_of(joint, source, dataset)
    record = begin_record(described, dataset, (), command)

    def made(folder: Path | None) -> tuple[_Nets, keras.Model]:
        statistics = _statistics(widths, plans, joint, source, dataset, folder, progress)
        nets = _Nets(widths=widths, method=joint.method, statistics=statistics)
        model = join_widths(_lowered(nets.fresh(source)))
        check_held(model, joint, progress)
        return nets, model

    if not resume:
        check_free(path, overwrite=overwrite)
    before = None if resume else made(None)  # what is refused is told before runs are replaced
    with opened(path, record, described.scheme, overwrite=overwrite, resume=resume) as (
        folder,
        record,
    ):
        for earlier in replaced:
            delete(earlier)
        nets, model = before or made(folder.path)
        for share, found in nets.statistics.items():
            keep_statistics(found, _statistics_file(folder.path, share))
        train_model(
            model,
            source,
            lambda source: join_widths(nets.fresh(source)),
            teacher,
            dataset,
            _from_narrow(joint),
            folder,
            resume=resume,
            progress=progress,
        )
        results = []
        for width, own in zip(widths, folders, strict=True):
            settings = dataclasses.replace(
                joint, scheme=width.scheme, share=width.share, parent=path
            )
            began = begin_record(settings, dataset, plans[width.name].float_layers, command)
            trained = _Trained(
                model=nets.trained(model, source, width),
                source=_source_of(source, width),
                statistics=_statistics_file(folder.path, width.share),
                record=began,
            )
            progress.say(f"{width.name}: {own}")
            results.append(_finish_width(trained, width.scheme, dataset, own, progress))
        figures, file = _packed(widths, [result.folder for result in results], folder, progress)
        float_net = float_twin(model, widths[0].name, source)
        finish(
            float_net,
            float_net,
            dataset,
            folder,
            record,
            [FORMATS["tflite"]],
            also=figures,
            progress=progress,
        )
        # Last, so that no kill costs the epochs that are done.
        (path / checkpoint.FILE_NAME).unlink(missing_ok=True)
    whole, apart = (int(figure.value) for figure in figures) if figures else (0, 0)
    return NestedResult(
        joint=path, widths=tuple(results), file=file, file_bytes=whole, graph_bytes=apart
    )


def width_path(path: Path, name: str) -> Path:
    """The folder of a width's run."""
    return path.with_name(f"{path.name}-{name}")


def _earlier(path: Path, widths: Collection[Path], *, overwrite: bool, resume: bool) -> list[Path]:
    """The runs of widths of an earlier training, which this one replaces.

    Raises:
        RunError: there are such runs, and nobody said so.
    """
    if resume and path.exists():
        return []
    there = [width for width in widths if (width / records.FILE_NAME).exists()]
    if there and not overwrite:
        raise RunError(
            f"{', '.join(map(str, there))}: there already, and not of an unfinished {path}. Give "
            "--name NAME for others, or --overwrite to replace them"
        )
    return there


def _source_of(source: keras.Model, width: Width) -> keras.Model:
    """The float model of a width."""
    return source if width.share == 1 else narrow_net(source, width.share)


def _statistics_file(path: Path, share: float) -> Path:
    """Where the statistics of widths with a share of the channels are, which have the same."""
    return (
        RunFolder(path).statistics if share == 1 else path / f"statistics-{_share_name(share)}.npz"
    )


def _statistics(
    widths: Sequence[Width],
    plans: Mapping[str, Plan],
    settings: TrainSettings,
    source: keras.Model,
    dataset: Dataset,
    path: Path | None,
    progress: Progress,
) -> dict[float, Statistics | None]:
    """Collects statistics for each share of the channels, wherever a width rounds.

    Args:
        path: of an earlier start, whose statistics are read where there are any; None for the
            first.
    """
    found = {}
    for share, width in {width.share: width for width in widths}.items():
        alike = [plans[each.name] for each in widths if each.share == share]
        points = {point.after: point for each in alike for point in each.points}
        places = dataclasses.replace(alike[0], points=tuple(points.values()))
        net = _source_of(source, width)
        file = None if path is None else _statistics_file(path, share)
        found[share] = collected(places, net, dataset, settings, file, progress)
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Nets:
    """How the model of each width is made of the float one.

    Attributes:
        statistics: by the share of the channels; None for nets in float.
    """

    widths: Sequence[Width]
    method: str
    statistics: Mapping[float, Statistics | None]

    def fresh(self, source: keras.Model) -> dict[str, keras.Model]:
        """A model for each width, by its name, with variables of its own."""
        return {width.name: self._one(source, width) for width in self.widths}

    def trained(self, joint: keras.Model, source: keras.Model, width: Width) -> keras.Model:
        """The model of a width, with what it became in training."""
        model = self._one(source, width)
        copy_width(joint, width.name, model)
        return model

    def _one(self, source: keras.Model, width: Width) -> keras.Model:
        net, statistics = _source_of(source, width), self.statistics[width.share]
        if statistics is None:
            return narrow_net(net, 1.0)  # another one, as quantizing gives
        return quantize(net, width.scheme, statistics, self.method)


def _lowered(models: Mapping[str, keras.Model]) -> Mapping[str, keras.Model]:
    """Checks that all can be lowered: that is said before training, not after."""
    for model in models.values():
        lower(model)
    return models


def _from_narrow(settings: TrainSettings) -> TrainSettings:
    """Weights of losses in the order of the outputs, of which the widest is the last."""
    return dataclasses.replace(settings, loss_weights=settings.loss_weights[::-1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trained:
    """What the run of a width begins with, and where the statistics are."""

    model: keras.Model
    source: keras.Model
    statistics: Path
    record: RunRecord


def _finish_width(
    trained: _Trained, scheme: Scheme, dataset: Dataset, path: Path, progress: Progress
) -> TrainResult:
    """Evaluates, exports and proves a width; begins anew where it was stopped."""
    began = opened(path, trained.record, scheme, overwrite=True, resume=False)
    with began as (folder, record):
        if trained.statistics.exists():  # of a float net there are none
            shutil.copyfile(trained.statistics, folder.statistics)
        record, exported = finish(
            trained.model,
            trained.source,
            dataset,
            folder,
            record,
            [FORMATS["tflite"]],
            progress=progress,
        )
    return TrainResult(folder=folder, record=record, export=exported.files[0])


def _packed(
    widths: Sequence[Width], folders: Sequence[RunFolder], joint: RunFolder, progress: Progress
) -> tuple[tuple[Figure, ...], Path | None]:
    """Writes the graphs of all widths into one file; says why where codes are not shared."""
    pairs = zip(widths, folders, strict=True)
    graphs = {width.name: load_graph(folder.graph) for width, folder in pairs}
    try:
        content = pack_nested(graphs)
    except GraphError as error:
        progress.say(f"no {FILE_NAME}: {error}")
        return (), None
    file = joint.path / FILE_NAME
    with atomic_write(file, "wb") as stream:
        stream.write(content)
    apart = sum(folder.graph.stat().st_size for folder in folders)
    figures = (
        Figure(name="size", value=len(content), unit="bytes", notes="graphs of all widths, in one"),
        Figure(name="size", value=apart, unit="bytes", notes="graphs of all widths, a file each"),
    )
    return figures, file

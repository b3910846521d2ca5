"""Several widths trained as one: a run for each, and one for what they share.

Each step runs all widths (`training.nested`). Afterwards each is a run as any other, evaluated,
exported and proven by itself. The run that trained them has the history of the training, the float
net of their kernels with the norms of the widest, and, where all kernels are cut from stored ones,
`widths.kqnested`: the graphs of all in one file, each kernel once (`graph.nested`).
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant import runs
from keras_quant.calibration.collect import Statistics
from keras_quant.calibration.quantize import quantize
from keras_quant.data import Dataset
from keras_quant.errors import GraphError, RunError
from keras_quant.files import atomic_write
from keras_quant.graph.nested import SUFFIX, pack_nested
from keras_quant.graph.store import load_graph
from keras_quant.jobs.finish import finish
from keras_quant.jobs.train import (
    TrainResult,
    check_starts_elsewhere,
    collected,
    finished,
    opened,
    prepare,
    teacher_of,
    train_model,
)
from keras_quant.jobs.train_settings import TrainSettings, begin_record, check
from keras_quant.lower import lower
from keras_quant.prepare import Plan, plan
from keras_quant.proof.formats import FORMATS
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import Figure, RunRecord
from keras_quant.schemes.file import load_scheme
from keras_quant.schemes.scheme import Scheme
from keras_quant.tf import keras
from keras_quant.training import checkpoint
from keras_quant.training.nested import copy_width, float_twin, join_widths

FILE_NAME = f"widths{SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedResult:
    """What came of several widths that were trained as one.

    Attributes:
        joint: the run that trained them.
        widths: the run of each, the widest first.
        file: the graphs of all, each kernel once; None where not all are cut from stored ones.
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
    schemes: Sequence[Scheme],
    path: Path,
    *,
    command: tuple[str, ...] = (),
    overwrite: bool = False,
    resume: bool = False,
    progress: Progress,
) -> NestedResult | None:
    """Trains several widths as one, then evaluates, exports and proves each.

    Args:
        settings: of all widths, but for the scheme.
        schemes: of the widths, the widest first.
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
        settings, scheme=schemes[0], nested=tuple(scheme.name for scheme in schemes)
    )
    folders = {scheme.name: width_path(path, scheme) for scheme in schemes}
    check(joint)
    for folder in (path, *folders.values()):
        check_starts_elsewhere(joint, folder)
    described = dataclasses.replace(joint, scheme=load_scheme("float"))
    if resume and finished(path, described):
        return None
    _make_room(path, folders.values(), overwrite=overwrite, resume=resume)
    resume = resume and path.exists()
    source, dataset = prepare(joint, progress)
    plans = [plan(source, scheme) for scheme in schemes]
    record = begin_record(described, dataset, (), command)
    with opened(path, record, described.scheme, overwrite=overwrite, resume=resume) as (
        folder,
        record,
    ):
        teacher = teacher_of(joint, source, dataset)
        statistics = collected(_together(plans), source, dataset, joint, folder, progress)
        fresh = _Widths(schemes, joint.method, statistics)
        model = join_widths(_lowered(fresh.of(source)))
        train_model(
            model,
            source,
            lambda source: join_widths(fresh.of(source)),
            teacher,
            dataset,
            _from_narrow(joint),
            folder,
            resume=resume,
            progress=progress,
        )
        results = []
        for scheme, planned in zip(schemes, plans, strict=True):
            own = dataclasses.replace(joint, scheme=scheme, parent=path)
            progress.say(f"{scheme.name}: {folders[scheme.name]}")
            result = _finish_width(
                fresh.trained(model, source, scheme),
                source,
                dataset,
                folders[scheme.name],
                begin_record(own, dataset, planned.float_layers, command),
                scheme,
                folder.statistics,
                progress=progress,
            )
            results.append(result)
        figures, file = _packed([result.folder for result in results], folders, folder, progress)
        float_net = float_twin(model, schemes[0].name, source)
        record, _ = finish(
            float_net, float_net, dataset, folder, record, [FORMATS["tflite"]], progress=progress
        )
        records.save(dataclasses.replace(record, figures=(*record.figures, *figures)), path)
        # Last, so that no kill costs the epochs that are done.
        (path / checkpoint.FILE_NAME).unlink(missing_ok=True)
    whole, apart = (int(figure.value) for figure in figures) if figures else (0, 0)
    return NestedResult(
        joint=path, widths=tuple(results), file=file, file_bytes=whole, graph_bytes=apart
    )


def width_path(path: Path, scheme: Scheme) -> Path:
    """The folder of a width's run."""
    return path.with_name(f"{path.name}-{scheme.name}")


def _make_room(path: Path, widths: Collection[Path], *, overwrite: bool, resume: bool) -> None:
    """Removes the runs of widths of an earlier training, which --overwrite replaces.

    Raises:
        RunError: there are such runs, and nobody said so.
    """
    there = [width for width in widths if (width / records.FILE_NAME).exists()]
    if resume and path.exists():
        return
    if there and not overwrite:
        raise RunError(
            f"{', '.join(map(str, there))}: there already, and not of an unfinished {path}. Give "
            "--name NAME for others, or --overwrite to replace them"
        )
    if not (path.exists() and not overwrite):  # which then is refused, and nothing is lost
        for width in there:
            runs.delete(width)


def _together(plans: Sequence[Plan]) -> Plan:
    """A plan with all places at which one of several rounds, for their statistics."""
    points = {point.after: point for each in plans for point in each.points}
    return dataclasses.replace(plans[0], points=tuple(points.values()))


@dataclass(frozen=True, slots=True, eq=False)
class _Widths:
    """How the quantized model of each width is made."""

    schemes: Sequence[Scheme]
    method: str
    statistics: Statistics | None

    def of(self, source: keras.Model) -> dict[str, keras.Model]:
        """All of them, by the names of their schemes."""
        return {scheme.name: self.one(source, scheme) for scheme in self.schemes}

    def one(self, source: keras.Model, scheme: Scheme) -> keras.Model:
        assert self.statistics is not None, scheme.name
        return quantize(source, scheme, self.statistics, self.method)

    def trained(self, joint: keras.Model, source: keras.Model, scheme: Scheme) -> keras.Model:
        """One of them, with what it became in training."""
        model = self.one(source, scheme)
        copy_width(joint, scheme.name, model)
        return model


def _lowered(models: Mapping[str, keras.Model]) -> Mapping[str, keras.Model]:
    """Checks that all can be lowered: that is said before training, not after."""
    for model in models.values():
        lower(model)
    return models


def _from_narrow(settings: TrainSettings) -> TrainSettings:
    """Weights of losses in the order of the outputs, of which the widest is the last."""
    return dataclasses.replace(settings, loss_weights=settings.loss_weights[::-1])


def _finish_width(
    model: keras.Model,
    source: keras.Model,
    dataset: Dataset,
    path: Path,
    record: RunRecord,
    scheme: Scheme,
    statistics: Path,
    *,
    progress: Progress,
) -> TrainResult:
    """Evaluates, exports and proves a width; begins anew where it was stopped."""
    with opened(path, record, scheme, overwrite=True, resume=False) as (folder, record):
        shutil.copyfile(statistics, folder.statistics)
        record, exported = finish(
            model, source, dataset, folder, record, [FORMATS["tflite"]], progress=progress
        )
    return TrainResult(folder=folder, record=record, export=exported.files[0])


def _packed(
    widths: Sequence[RunFolder],
    names: Mapping[str, Path],
    folder: RunFolder,
    progress: Progress,
) -> tuple[tuple[Figure, ...], Path | None]:
    """Writes the graphs of all widths into one file; says why where they share no kernels."""
    graphs = {name: load_graph(width.graph) for name, width in zip(names, widths, strict=True)}
    try:
        content = pack_nested(graphs)
    except GraphError as error:
        progress.say(f"no {FILE_NAME}: {error}")
        return (), None
    file = folder.path / FILE_NAME
    with atomic_write(file, "wb") as stream:
        stream.write(content)
    apart = sum(width.graph.stat().st_size for width in widths)
    figures = (
        Figure(name="size", value=len(content), unit="bytes", notes="graphs of all widths, in one"),
        Figure(name="size", value=apart, unit="bytes", notes="graphs of all widths, a file each"),
    )
    return figures, file

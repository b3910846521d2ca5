"""How long what the user names would take on a board, estimated; nothing is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keras_quant.bench import records as measured
from keras_quant.bench.estimate import onnx_layers
from keras_quant.bench.estimate.fit import Observation, fit_board
from keras_quant.bench.estimate.fusion import FusedLayer, fuse
from keras_quant.bench.estimate.latency import Setting
from keras_quant.bench.estimate.parameters import Fitted, load_fitted
from keras_quant.bench.estimate.predict import estimate
from keras_quant.bench.estimate.records import EstimateRecord
from keras_quant.bench.records import BenchRecord, Measurement
from keras_quant.bench.results import parse_name
from keras_quant.emit.bundle.make import MANIFEST_NAME, MODEL_NAME
from keras_quant.errors import ModelError, ResultsError, RunError, UsageError, close_names
from keras_quant.files import check_is_file
from keras_quant.graph.ir import Graph
from keras_quant.graph.store import load_graph
from keras_quant.jobs.begin import now
from keras_quant.jobs.inspection import graph_of
from keras_quant.runners.child import Child, limits_for
from keras_quant.runs import RunFolder, stages
from keras_quant.runs.records import versions
from keras_quant.targets.jetson import PRECISIONS, Board, PowerMode, find_board, find_mode
from keras_quant.version import __version__
from keras_quant.zoo import MODELS

Say = Callable[[str], None]

LEAST_NETS = 5
"""Nets of the user's own board that parameters are fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateSettings:
    """What to estimate.

    Attributes:
        board: a key of `jetson.BOARDS`.
        power_mode: one of the board's; None means the fastest.
        precisions: some of `jetson.PRECISIONS`; () for all that the board has.
        batches: images a call.
        input_shape: of a zoo model, or of a Keras file that takes images of any size; None means
            the model's own.
        input_shapes: with the batch, by the names of inputs in which ONNX files leave sizes open.
        results: a record of measurements on such a board, or a folder with such; None means the
            parameters that come with the package.
        trust: load a Keras file that holds code.
    """

    board: str
    power_mode: str | None = None
    precisions: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1,)
    input_shape: tuple[int, ...] | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    results: Path | None = None
    trust: bool = False


def estimate_latency(
    targets: Sequence[str], settings: EstimateSettings, *, say: Say = lambda text: None
) -> EstimateRecord:
    """Estimates what runs, models or files would take on a board.

    Args:
        targets: runs, .kqgraph, .keras and .h5 files, SavedModels, names of the zoo, .onnx files
            and bundles, and .tflite files that lie in a run's export.
        say: is told what was read and fitted.
    Raises:
        UsageError: no such board, power mode or precision, or too few results to fit to.
        KerasQuantError: a target or a record cannot be read.
    """
    board, mode = find_board(settings.board), find_mode(settings.board, settings.power_mode)
    precisions = _precisions(settings.board, board, settings.precisions)
    fitted = load_fitted()
    if settings.results is not None:
        fitted = fit_to_results(settings.results, settings, fitted, say=say)
    nets = {target: _layers(target, settings, say) for target in dict.fromkeys(targets)}
    return EstimateRecord(
        command=tuple(sys.argv),
        created=now(),
        kq_version=__version__,
        board=settings.board,
        title=board.title,
        power_mode=mode.name,
        gpu_mhz=mode.gpu_mhz,
        memory_mhz=mode.memory_mhz,
        sms=mode.sms,
        fitted=fitted,
        estimates=tuple(
            one
            for target, layers in nets.items()
            for batch in settings.batches
            for one in estimate(
                target,
                layers,
                board=board,
                mode=mode,
                precisions=precisions,
                batch=batch,
                fitted=fitted,
            )
        ),
        versions=versions(),
    )


def _precisions(name: str, board: Board, asked: Sequence[str]) -> tuple[str, ...]:
    unknown = [one for one in asked if one not in PRECISIONS]
    if unknown:
        raise UsageError(
            f"--precision {unknown[0]!r} is not known{close_names(unknown[0], PRECISIONS)}; known "
            f"are {', '.join(PRECISIONS)}"
        )
    if "int8" in asked and not board.int8:
        raise UsageError(
            f"--precision int8: the GPU of {name} ({board.gpu}, compute capability "
            f"{board.compute_capability}) has no int8 kernels in TensorRT; give fp16"
        )
    return tuple(asked) or board.precisions


def _layers(target: str, settings: EstimateSettings, say: Say) -> tuple[FusedLayer, ...]:
    path = Path(target)
    file = path / MODEL_NAME if (path / MANIFEST_NAME).is_file() else path
    if file.suffix.lower() == ".onnx":
        return read_onnx(file, settings.input_shapes)
    return fuse(find_graph(target, input_shape=settings.input_shape, trust=settings.trust, say=say))


def read_onnx(
    file: Path, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[FusedLayer, ...]:
    """The fused layers of an ONNX file, ours or any other, which a child process reads.

    Args:
        input_shapes: see `EstimateSettings`.

    Raises:
        ModelError: there is none, it is damaged, or holds what is not known.
    """
    check_is_file(file, ModelError)
    with Child(file, limits_for(file)) as child:
        read = f"{onnx_layers.__name__}:read_layers"
        shapes = {name: list(shape) for name, shape in (input_shapes or {}).items()}
        return child.call(read, onnx_layers.OnnxLayers, input_shapes=shapes).layers


def find_graph(
    target: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
    say: Say = lambda text: None,
) -> Graph:
    """The graph of what a user names.

    Args:
        input_shape, trust: see `EstimateSettings`.
        say: is told what the model takes.
    Raises:
        KerasQuantError: see `inspection.graph_of`.
    """
    path = Path(target)
    if target in MODELS:
        shape = input_shape or MODELS[target].images  # those of its paper
        return graph_of(target, scheme=None, dataset=None, input_shape=shape)
    if path.suffix.lower() == ".tflite":
        return load_graph(_graph_beside(path))
    return graph_of(
        target, scheme=None, dataset=None, input_shape=input_shape, trust=trust, say=say
    )


def _graph_beside(file: Path) -> Path:
    """The graph that a TFLite file was written from, in its folder.

    Raises:
        ModelError, RunError: there is no such file, or no graph beside it.
    """
    check_is_file(file, ModelError)
    if (file.parent / stages.FILE_NAME).is_file():
        raise RunError(
            f"{file}: is one stage of a net, and the graph beside it that of the whole net; kq "
            "anytime simulate RUN --board estimates stages"
        )
    graph = file.parent / RunFolder(file).graph.name
    if not graph.is_file():
        raise RunError(
            f"{file}: estimates of .tflite files are counted from the graph, and no {graph.name} "
            "lies beside it. Give the run, its graph, or the Keras model that the file was made of"
        )
    return graph


def fit_to_results(
    path: Path, settings: EstimateSettings, known: Fitted, *, say: Say = lambda text: None
) -> Fitted:
    """Fits the parameters to what was measured on the user's board.

    Args:
        path: a record that `kq bench --host` or `kq import-results` wrote, or a folder in which
            such lie.
        known: the parameters before.
        say: is told what was left out, and what came of it.
    Raises:
        UsageError: there are fewer than LEAST_NETS nets, or they are of another board.
        RunError, ResultsError: a record is broken, or its graph cannot be found.
    """
    found = [one for record in _records(path) for one in _observations(*record, settings, say)]
    nets = {one.net for one in found}
    if len(nets) < LEAST_NETS:
        raise UsageError(
            f"--fit {path}: {len(nets)} nets with times of TensorRT; {LEAST_NETS} different ones "
            f"are needed. Measure more with kq bench BUNDLE --host, or kq import-results"
        )
    fitted = fit_board(found, known, origin=f"{len(found)} times of {len(nets)} nets in {path}")
    say(
        f"fitted to {len(nets)} nets: each left out in turn, the median error is "
        f"{fitted.spread.median_error:.1%} (the worst, a factor of "
        f"{fitted.spread.worst_factor:.2f})"
    )
    return fitted


def _records(path: Path) -> Iterable[tuple[Path, BenchRecord]]:
    files = sorted(path.rglob(measured.FILE_NAME)) if path.is_dir() else [path]
    if not files:
        raise UsageError(
            f"--fit {path}: holds no {measured.FILE_NAME}; kq bench BUNDLE --host and kq "
            "import-results write them"
        )
    return [(file, measured.load(file)) for file in files]


def _observations(
    file: Path, record: BenchRecord, settings: EstimateSettings, say: Say
) -> Iterable[Observation]:
    """What a record holds of TensorRT: of each net and precision the time of its GPU computing."""
    board = record.machine.board
    made_for = board.get("made_for", settings.board)
    best: dict[tuple[str, str], Measurement] = {}
    for one in record.measurements:
        if one.runtime != "tensorrt":
            say(f"{file}: {one.name}: left out, {one.runtime} ran it")
            continue
        net, precision = parse_name(one.name)
        if precision not in PRECISIONS:
            say(f"{file}: {one.name}: left out, {precision or 'its precision'} is not estimated")
        elif (net, precision) not in best or one.kind == "enqueued":
            best[net, precision] = one
    if best and made_for != settings.board:
        raise UsageError(
            f"--fit {file}: was measured with files for {made_for}, and --board is "
            f"{settings.board}. Give the results of that board"
        )
    mode = _mode_of(file, board.get("power_mode", ""), settings, say) if best else None
    for (net, precision), one in best.items():
        assert mode is not None
        layers = _measured_layers(file, net, one)
        yield Observation(
            net=_shape_of(layers),
            board=settings.board,
            layers=layers,
            setting=Setting(
                board=find_board(settings.board), mode=mode, precision=precision, batch=one.batch
            ),
            latency_ms=one.summary.p50_ms,
        )


def _shape_of(layers: Sequence[FusedLayer]) -> str:
    """What tells nets apart: their layers, as models of one name may differ and be alike."""
    return repr([(one.kind, one.rows, one.columns, one.depth, one.groups) for one in layers])


def _mode_of(file: Path, told: str, settings: EstimateSettings, say: Say) -> PowerMode:
    """The power mode in which a record was measured; the one asked for where it does not tell."""
    try:
        return find_mode(settings.board, told or settings.power_mode)
    except UsageError:
        if not told:
            raise
        mode = find_mode(settings.board, settings.power_mode)
        say(
            f"{file}: was measured in power mode {told}, whose clocks are not known; taken for "
            f"{mode.name}"
        )
        return mode


def _measured_layers(file: Path, net: str, one: Measurement) -> tuple[FusedLayer, ...]:
    """The layers of what was measured: of the graph or the .onnx file beside it, or of the zoo."""
    folders = [folder for path in (file, Path(one.file)) for folder in path.parents[:2]]
    for folder in folders:
        graph = folder / RunFolder(folder).graph.name
        if graph.is_file():
            return fuse(load_graph(graph))
    for folder in (file.parent, Path(one.file).parent):
        if (folder / MODEL_NAME).is_file():
            return read_onnx(folder / MODEL_NAME)
    if net in MODELS:
        (shape, *_) = one.input_shapes.values()
        return fuse(graph_of(net, scheme=None, dataset=None, input_shape=tuple(shape[1:])))
    raise ResultsError(
        f"{file}: {one.name}: neither {RunFolder(file.parent).graph.name} nor {MODEL_NAME} lies "
        f"beside the record or beside {one.file}, and {net!r} is no model of the zoo. Put the "
        "record into the bundle that was measured"
    )

"""Files of runs as pieces that a controller may run: what they answer, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_quant.anytime.controlled import Begin, PieceAnswer, begin_stages, joined
from keras_quant.bench import records as benches
from keras_quant.bench.estimate.fusion import fuse
from keras_quant.bench.estimate.parameters import load_fitted
from keras_quant.bench.estimate.predict import estimate
from keras_quant.bench.measure import Settings, measure
from keras_quant.bench.records import BenchRecord, Measurement
from keras_quant.data import Split
from keras_quant.data.resize import averaged
from keras_quant.errors import DataError, UsageError
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.stages import cut
from keras_quant.graph.store import load_graph
from keras_quant.jobs.anytime import RUNTIMES, open_stages
from keras_quant.jobs.candidates import candidate
from keras_quant.jobs.loaded import last_logits, load_exported
from keras_quant.jobs.paths import exported_file
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import digest
from keras_quant.runners.batches import IMAGES_AT_ONCE
from keras_quant.runs import RunFolder, records, stages
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import RunRecord
from keras_quant.targets.jetson import find_board, find_mode

UNITS = {"ms": "ms", "mj": "mJ"}
"""What an image may cost: milliseconds, or millijoules of the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file.

    Attributes:
        name: of the run, and of the exit where there are several.
        sha256: of its content.
        is_float: whether the run has no bits.
    """

    name: str
    file: Path
    sha256: str
    is_float: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Net:
    """A run, as it was exported.

    Attributes:
        pieces: its stages, or its file.
        begin: gives the answer of each piece to images, when it is asked for it; images of more
            pixels than it takes are averaged, see `data.resize`.
        graphs: of each piece.
    """

    name: str
    pieces: tuple[Piece, ...]
    begin: Begin
    graphs: Callable[[], tuple[Graph, ...]]


def open_net(run: Path, form: str, name: str) -> Net:
    """Opens the stages of a run, or its file where it has none.

    Args:
        form: a key of FORMATS.
        name: what to call it.
    Raises:
        RunError: there is no such run, or it was not exported in that format.
    """
    record = records.load(run)
    has_stages = (RunFolder(run).export / stages.FOLDER / stages.FILE_NAME).exists()
    net = (_of_stages if has_stages else _of_file)(run, form, record, name)
    if len(record.dataset.input_shape) != 3:
        return net
    height, width, _ = record.dataset.input_shape
    return replace(net, begin=lambda images: net.begin(averaged(images, (height, width))))


def answers_of(net: Net, split: Split, part: str, progress: Progress) -> list[PieceAnswer]:
    """What each of a net's pieces answers.

    Args:
        part: how to call the images.
    Raises:
        DataError: there are no images.
    """
    if not len(split):
        raise DataError(f"there are no {part} images to answer")
    found = []
    with progress.bar(f"asking {net.name}, {part} images", len(split)) as show:
        for start in range(0, len(split), IMAGES_AT_ONCE):
            begun = net.begin(split.x[start : start + IMAGES_AT_ONCE])
            found.append([joined([one]) for one in begun])
            show(min(start + IMAGES_AT_ONCE, len(split)), "")
    return [joined(batches) for batches in zip(*found, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """What pieces cost in one place.

    Attributes:
        place: where.
        is_estimate: whether nothing was measured.
        each: (pieces,).
    """

    place: str
    is_estimate: bool
    each: np.ndarray


def recorded_costs(path: Path, pieces: Sequence[Piece], unit: str) -> Costs:
    """What a record of `kq bench` says of pieces, which it knows by their content.

    One image a call; of several runtimes or threads the first that all pieces were measured with.

    Args:
        unit: a key of UNITS.
    Raises:
        RunError: it is broken.
        UsageError: pieces are not in it, or no energy was measured.
    """
    record = benches.load(path)
    usable = [one for one in record.measurements if one.batch == 1 and one.kind == "latency"]
    ways = list(dict.fromkeys((one.runtime, one.threads) for one in usable))
    known = [
        {one.sha256: one for one in usable if (one.runtime, one.threads) == way} for way in ways
    ]
    whole = [found for found in known if all(piece.sha256 in found for piece in pieces)]
    if not whole:
        most = max(known, key=lambda found: sum(p.sha256 in found for p in pieces), default={})
        missing = [str(piece.file) for piece in pieces if piece.sha256 not in most]
        raise UsageError(
            f"{path}: does not tell how long all files take, one image a call. Measure them in "
            f"one go: kq bench {' '.join(str(piece.file) for piece in pieces)}; missing: "
            f"{', '.join(missing)}"
        )
    found = [whole[0][piece.sha256] for piece in pieces]
    return Costs(
        place=_place(record),
        is_estimate=False,
        each=np.array([_cost(one, unit, where=str(path)) for one in found]),
    )


def measured_costs(pieces: Sequence[Piece], form: str, unit: str, progress: Progress) -> Costs:
    """Measures pieces here, one image and one thread, in turn.

    Raises:
        UsageError: files of that format do not run here, or there is no energy to be read.
    """
    if form not in RUNTIMES:
        raise UsageError(
            f"files of {form} are not measured here, but on a board: give --times RECORD of kq "
            f"bench, --board NAME for an estimate, or --format {' or '.join(RUNTIMES)}"
        )
    found, _ = measure(
        [candidate(piece.file, RUNTIMES[form], name=str(piece.file)) for piece in pieces],
        Settings(),
        say=progress.say,
    )
    by_file = {one.name: one for one in found}
    each = [_cost(by_file[str(piece.file)], unit, where="this machine") for piece in pieces]
    return Costs(place="this machine", is_estimate=False, each=np.array(each))


def check_estimated(board: str, unit: str) -> None:
    """Raises: UsageError: there is no such board, or energy is asked for."""
    find_board(board)
    if unit != "ms":
        raise UsageError(f"--board {board}: energy is not estimated; leave out --cost {unit}")


def estimated_costs(nets: Sequence[Net], board: str) -> Costs:
    """Estimates what pieces would take on a board, see docs/estimate.md.

    Those of float runs in fp16, of others in int8, or fp16 where the board has no int8.

    Args:
        board: a key of `jetson.BOARDS`, in its fastest power mode.
    """
    found, mode, fitted = find_board(board), find_mode(board, None), load_fitted()
    each = []
    for net in nets:
        for piece, graph in zip(net.pieces, net.graphs(), strict=True):
            precision = "fp16" if piece.is_float or not found.int8 else "int8"
            (one,) = estimate(
                piece.name,
                fuse(graph),
                board=found,
                mode=mode,
                precisions=[precision],
                batch=1,
                fitted=fitted,
            )
            each.append(one.estimate_ms)
    return Costs(
        place=f"ESTIMATE, {found.title}, {mode.name}", is_estimate=True, each=np.array(each)
    )


def _of_stages(run: Path, form: str, record: RunRecord, name: str) -> Net:
    opened = open_stages(run, form)
    is_float = _is_float(record)

    def graphs() -> tuple[Graph, ...]:
        whole = load_graph(opened.folder / RunFolder(run).graph.name)
        return tuple(stage.graph for stage in cut(whole))

    return Net(
        name=name,
        pieces=tuple(
            Piece(
                name=f"{name} exit {number}" if number < len(opened.files) else name,
                file=opened.folder / file.file,
                sha256=file.sha256,
                is_float=is_float,
            )
            for number, file in enumerate(opened.files, start=1)
        ),
        begin=lambda images: begin_stages(opened.loaded, opened.inputs(images)),
        graphs=graphs,
    )


def _of_file(run: Path, form: str, record: RunRecord, name: str) -> Net:
    file = exported_file(run, form)
    loaded = load_exported(file, FORMATS[form])
    becomes = loaded.recorded or record.dataset.preprocess

    def begin(images: np.ndarray) -> Iterator[PieceAnswer]:
        yield PieceAnswer(logits=last_logits(loaded, images, becomes))

    sha256 = digest(file.read_bytes())
    return Net(
        name=name,
        pieces=(Piece(name=name, file=file, sha256=sha256, is_float=_is_float(record)),),
        begin=begin,
        graphs=lambda: (load_graph(RunFolder(run).graph),),
    )


def _is_float(record: RunRecord) -> bool:
    return record.training is not None and record.training.method == "float"


def _place(record: BenchRecord) -> str:
    machine = record.machine
    return machine.board.get("model") or machine.environment.get("cpu") or "unknown machine"


def _cost(one: Measurement, unit: str, *, where: str) -> float:
    if unit == "ms":
        return one.summary.p50_ms
    if one.energy_mj is None:
        raise UsageError(
            f"{where}: no energy of {one.file} is known: its processor does not tell, or does not "
            "let this user read it. Leave out --cost mj"
        )
    return one.energy_mj

"""What was estimated, as a JSON file of its own kind, which nothing reads as a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keras_quant.bench.estimate.parameters import Fitted
from keras_quant.errors import RunError
from keras_quant.files import read_object, write_json
from keras_quant.json_codec import from_plain

FORMAT_VERSION = 1
KIND = "estimate"
_PREFIX = "estimate-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEstimate:
    """One fused layer.

    Attributes:
        name: of the graph's node that it begins with.
        nodes: names of all nodes in it.
        precision: that it is computed in.
        time_us: max(arithmetic, memory) + launch.
        bound: which of "arithmetic", "memory" and "launch" is the largest.
    """

    name: str
    nodes: tuple[str, ...]
    precision: str
    time_us: float
    arithmetic_us: float
    memory_us: float
    launch_us: float
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one net is estimated to take in one precision; never a measurement.

    Attributes:
        name: what the user gave.
        precision: "fp32", "fp16" or "int8".
        batch: images a call.
        estimate_ms: of the GPU computing one call, without copies to and from it.
        low_ms, high_ms: the interval, see `Fitted.spread`.
        speed_up: over fp32, estimated too.
        macs: multiply-accumulates of one image.
        layers: in the graph's order.
        notes: what a reader has to know.
    """

    name: str
    precision: str
    batch: int
    estimate_ms: float
    low_ms: float
    high_ms: float
    speed_up: float
    macs: int
    layers: tuple[LayerEstimate, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateRecord:
    """Estimates for one board in one power mode.

    Attributes:
        kind: KIND, in every such file.
        created: local time with offset, ISO 8601.
        board: its name in `targets.jetson.BOARDS`.
        title: of the board.
        power_mode: as nvpmodel calls it.
        gpu_mhz, memory_mhz, sms: what the mode sets.
        fitted: the parameters, and how far off they were where they had not been fitted.
    """

    command: tuple[str, ...]
    created: str
    kq_version: str
    board: str
    title: str
    power_mode: str
    gpu_mhz: float
    memory_mhz: float
    sms: int
    fitted: Fitted
    estimates: tuple[Estimate, ...]
    versions: Mapping[str, str]
    kind: str = KIND
    format_version: int = FORMAT_VERSION


def file_name(board: str) -> str:
    """The name of a board's record in a run's folder."""
    return f"{_PREFIX}{board}.json"


def save(record: EstimateRecord, path: str | Path) -> None:
    """Writes a record. Raises: FileError: the system refuses."""
    write_json(path, record)


def load(path: Path) -> EstimateRecord:
    """Reads a record.

    Raises:
        RunError: the file is missing, broken, of a newer format, or no estimate.
    """
    remedy = "Give a file that kq bench --estimate wrote"
    content = read_object(path, remedy=remedy, format_version=FORMAT_VERSION)
    problems: list[str] = []
    if content.get("kind") != KIND:
        problems.append(f"kind is {content.get('kind')!r}, not {KIND!r}. {remedy}")
    record = from_plain(content, EstimateRecord, problems) if not problems else None
    if record is None or problems:
        raise RunError("\n".join(f"{path}: {problem}" for problem in problems))
    return record


def find(folder: Path) -> dict[str, EstimateRecord]:
    """The records of a run's folder, by board.

    Raises:
        RunError: one of them is broken.
    """
    return {
        record.board: record
        for path in sorted(folder.glob(f"{_PREFIX}*.json"))
        for record in (load(path),)
    }

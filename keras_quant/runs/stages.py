"""stages.json: what the files of a net that was cut into stages take, give and hand over."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_record
from keras_quant.preprocessing import Preprocessing

FOLDER, FILE_NAME = "stages", "stages.json"
FORMAT_VERSION = 2
"""Since 2, of which range codes are."""

_REMEDY = "Export the run again: kq export RUN --stages"
_STORED = {"int8": (-128, 127), "uint8": (0, 255)}  # codes that a dtype can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a stage.

    Attributes:
        dtype: numpy's name of it: float32, int8 or uint8.
        shape: without the batch axis, channels last.
        scale: of codes, real = scale * (stored - zero_point); None for floats.
        zero_point: as stored; None for floats.
        lowest, highest: the stored codes that it may hold, both inclusive; None for floats, and in
            records of before this was kept.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None
    lowest: int | None = None
    highest: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFile:
    """One stage.

    Attributes:
        file: its name, within the folder.
        answer: the output that holds one number a class.
        inputs: of the images, or outputs of earlier stages, by name.
        outputs: the answer, and what later stages take.
        probabilities: whether a softmax gives these numbers.
        macs: multiply-accumulates of one image.
        bit_operations: see `graph.costs.cost`.
    """

    file: str
    sha256: str
    answer: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    macs: int
    bit_operations: int
    probabilities: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What running all files one after the other found, beside the whole graph's reference.

    Attributes:
        images: how many.
        codes_handed: codes that went from one file to the next, over all images.
        codes_different: how many of them are not the reference's.
        difference: the largest of an answer, see `proof.parity.OutputParity`.
        top1_agreement: share of images on which all answers have the reference's class.
    """

    images: int
    codes_handed: int
    codes_different: int
    difference: float
    top1_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedFormat:
    """The stages in one format, in order.

    Attributes:
        graph_sha256: of the integer graph that they were cut from; biases are realized for the
            formats that are exported together, so other formats may have another.
    """

    graph_sha256: str
    stages: tuple[StageFile, ...]
    chain: Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesRecord:
    """All that a folder of stages holds.

    Attributes:
        preprocess: what becomes of pixels in front of the first; None for float data.
        formats: by the name of the format.
    """

    kq_version: str
    preprocess: Preprocessing | None = None
    formats: Mapping[str, StagedFormat] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def load(folder: Path) -> StagesRecord:
    """Reads a folder's stages.json.

    Raises:
        RunError: it is missing, broken, or of a newer format; or names files elsewhere.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise RunError(f"{folder}: has no {FILE_NAME}. {_REMEDY}")
    return read_record(
        path, StagesRecord, remedy=_REMEDY, format_version=FORMAT_VERSION, problems_of=_problems
    )


def _problems(record: StagesRecord) -> Iterator[str]:
    """What the fields do not say together."""
    for name, staged in record.formats.items():
        if not staged.stages:
            yield f"formats.{name}.stages: is empty"
        for stage in staged.stages:
            if Path(stage.file).is_absolute() or ".." in Path(stage.file).parts:
                yield f"file {stage.file!r} does not lie in the folder"
            if stage.answer not in [port.name for port in stage.outputs]:
                yield f"{stage.file}: its answer {stage.answer!r} is none of its outputs"
            if not stage.inputs:
                yield f"{stage.file}: has no inputs"
            for port in (*stage.inputs, *stage.outputs):
                if not _is_range(port):
                    yield (
                        f"{stage.file}: codes of {port.name!r}, {port.dtype}, are from "
                        f"{port.lowest} to {port.highest}; two codes of such are needed, the lower "
                        "one first"
                    )


def _is_range(port: Port) -> bool:
    """Whether its codes are said not at all, or from one that there is to a higher one."""
    if port.lowest is None or port.highest is None:
        return port.lowest is port.highest
    least, most = _STORED.get(port.dtype, (0, 0))
    return least <= port.lowest < port.highest <= most


def with_others(record: StagesRecord, folder: Path, *, tried: Collection[str] = ()) -> StagesRecord:
    """A record with those formats of a folder's that it lacks, and whose files are still there.

    Args:
        tried: formats whose files are about to be replaced or removed.
    """
    try:
        before = load(folder)
    except RunError:
        return record
    kept = {
        name: staged
        for name, staged in before.formats.items()
        if name not in tried
        and all(_is_there(folder / file.file, file.sha256) for file in staged.stages)
    }
    return replace(record, formats={**kept, **record.formats})


def _is_there(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False

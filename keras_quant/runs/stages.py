"""stages.json: what the files of a net that was cut into stages take, give and hand over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from keras_quant.errors import RunError
from keras_quant.files import read_object
from keras_quant.json_codec import from_plain
from keras_quant.preprocessing import Preprocessing

FOLDER, FILE_NAME = "stages", "stages.json"
FORMAT_VERSION = 1
_REMEDY = "Export the run again: kq export RUN --stages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An input or output of a stage.

    Attributes:
        dtype: numpy's name of it: float32, int8 or uint8.
        shape: without the batch axis, channels last.
        scale: of codes, real = scale * (stored - zero_point); None for floats.
        zero_point: as stored; None for floats.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


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
    """The stages in one format, in order."""

    stages: tuple[StageFile, ...]
    chain: Chain


@dataclass(frozen=True, slots=True, kw_only=True)
class StagesRecord:
    """All that a folder of stages holds.

    Attributes:
        graph_sha256: of the integer graph that they were cut from.
        preprocess: what becomes of pixels in front of the first; None for float data.
        formats: by the name of the format.
    """

    kq_version: str
    graph_sha256: str
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
    content = read_object(path, remedy=_REMEDY, format_version=FORMAT_VERSION)
    problems: list[str] = []
    record = from_plain(content, StagesRecord, problems)
    files = [s.file for f in record.formats.values() for s in f.stages] if record else []
    problems += [
        f"file {name!r} does not lie in the folder"
        for name in files
        if Path(name).is_absolute() or ".." in Path(name).parts
    ]
    if record is None or problems:
        lines = "\n".join(f"{path}: {problem}" for problem in problems)
        raise RunError(f"{lines}\n{_REMEDY}")
    return record


def with_others(record: StagesRecord, folder: Path) -> StagesRecord:
    """A record with the formats, of the same graph, that a folder holds and that it lacks."""
    try:
        before = load(folder)
    except RunError:
        return record
    if before.graph_sha256 != record.graph_sha256:
        return record
    return replace(record, formats={**before.formats, **record.formats})

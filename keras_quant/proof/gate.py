"""Writes a lowered model as files, behind a gate: a file that fails keeps another name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_quant.calibration.collect import CALIBRATION_IMAGES
from keras_quant.data import Dataset
from keras_quant.errors import ParityError
from keras_quant.files import make_folder, write_bytes, write_json
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.pixels import takes_pixels
from keras_quant.graph.store import save_graph
from keras_quant.lower import Snap
from keras_quant.model.logits import LogitFunction
from keras_quant.pixels import normalize
from keras_quant.preprocessing import RAW, Preprocessing
from keras_quant.proof.answers import run_logits
from keras_quant.proof.formats import Format
from keras_quant.proof.formats.definition import Card, Package
from keras_quant.proof.parity import Parity, prove_all
from keras_quant.proof.tally import KERAS_TOLERANCE
from keras_quant.runs import GRAPH_NAME
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

PARITY_NAME = "parity.json"
SAMPLES = 8  # images that go with a file to a board


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A file that passed the gate.

    Attributes:
        format: a key of formats.FORMATS.
        path: the file; where it has a folder of its own, that holds all that a board needs.
        size_bytes: its length.
        accuracy: share of the images that it classifies right.
        moved_channels: channels whose bias was moved for this export (see lower.snap).
        largest_shift_steps: the largest such move, in steps of the output.
        parity: the comparison with the reference, and with Keras.
    """

    format: str
    path: Path
    size_bytes: int
    accuracy: float
    moved_channels: int
    largest_shift_steps: float
    parity: Parity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What files are proven on.

    Attributes:
        images: uint8 or float32 (images, height, width, channels), of the test set.
        labels: int (images,).
        keras_logits: float32 (images, classes), the Keras model's answers to them.
        calibration: training images, over which the range of int8 logits is measured.
        class_names: in the order of the logits, for what files say of themselves.
        scheme: how the model was quantized, likewise.
        preprocessing: what becomes of pixels in front of the model; None for images of floats.
    """

    images: np.ndarray
    labels: np.ndarray
    keras_logits: np.ndarray
    calibration: np.ndarray
    class_names: tuple[str, ...] = ()
    scheme: str = ""
    preprocessing: Preprocessing | None = None

    @property
    def has_pixels(self) -> bool:
        """Whether images are 8-bit pixels; else they are floats."""
        return self.images.dtype == np.uint8

    def taken_by(self, graph: Graph) -> Preprocessing | None:
        """What becomes of pixels in front of a graph; some take the pixels themselves."""
        return RAW if self.preprocessing and takes_pixels(graph) else self.preprocessing

    def inputs(self, graph: Graph, images: np.ndarray) -> dict[str, np.ndarray]:
        """Some images as a graph takes them, by the name of its input."""
        return {graph.inputs[0]: normalize(images, self.taken_by(graph))}


def gather(model: keras.Model, data: Dataset, *, images: int = 0, scheme: str = "") -> Evidence:
    """Gathers what a model's files are proven on.

    Args:
        model: the model with the biases that its files have.
        images: how many test images; 0 means all.
    """
    x = data.test.x[: images or None]
    return Evidence(
        images=x,
        labels=data.test.y[: images or None],
        keras_logits=LogitFunction(model, data.preprocessing)(x),
        calibration=data.train.x[:CALIBRATION_IMAGES],
        class_names=data.class_names,
        scheme=scheme,
        preprocessing=data.preprocessing,
    )


def export_formats(
    snap: Snap,
    folder: Path,
    formats: Sequence[Format],
    evidence: Evidence,
    *,
    progress: Progress,
) -> tuple[Export, ...]:
    """Writes folder/model.* in each format and folder/parity.json, once the files are proven.

    The graph itself is left there as model.kqgraph.

    Args:
        snap: the lowered model.
    Raises:
        ParityError: some files do not answer as the reference does; each is left under
            model.failed-parity.* beside parity.json, and an older model.* is removed.
        EmitError: a target cannot compute the graph exactly, or not as fast as it should.
    """
    graphs = {form: _rewritten(snap.graph, form, evidence) for form in formats}
    contents = {form: _emitted(graphs[form], form, evidence) for form in formats}
    proven = _proven(snap.graph, graphs, contents, evidence, folder, progress)
    _write(folder, contents, proven, snap, evidence)
    failed = [_failure(folder / f.failed_name, p) for f, p in proven.items() if not p.passed]
    if failed:
        raise ParityError("\n".join(failed))
    return tuple(
        Export(
            format=form.name,
            path=folder / form.file_name,
            size_bytes=len(contents[form]),
            accuracy=_accuracy(form, contents[form], evidence),
            moved_channels=snap.moved,
            largest_shift_steps=snap.largest_shift_steps,
            parity=parity,
        )
        for form, parity in proven.items()
    )


def _rewritten(graph: Graph, form: Format, evidence: Evidence) -> Graph:
    """The graph that a format's file is of; the given one itself in most cases."""
    rewrite = form.definition.rewrite
    if rewrite is None:
        return graph
    calibration = evidence.inputs(graph, evidence.calibration)
    return rewrite(graph, calibration, evidence.preprocessing)


def _emitted(graph: Graph, form: Format, evidence: Evidence) -> bytes:
    definition = form.definition
    card = Card(
        name=graph.name, labels=evidence.class_names, preprocessing=evidence.taken_by(graph)
    )
    content = definition.emit(graph, card=card)
    if definition.check is not None:
        definition.check(graph, content)
    return content


def _proven(
    model_graph: Graph,
    graphs: Mapping[Format, Graph],
    contents: Mapping[Format, bytes],
    evidence: Evidence,
    folder: Path,
    progress: Progress,
) -> dict[Format, Parity]:
    """Proves files; those of the same graph together, so that its reference runs once."""
    proven: dict[Format, Parity] = {}
    for graph in dict.fromkeys(graphs.values()):
        files = [(form, contents[form]) for form in graphs if graphs[form] is graph]
        names = ", ".join(form.file_name for form, _ in files)
        count = len(evidence.images)
        progress.say(f"proving {names} in {folder} on {count:,} test images")
        with progress.bar("proving", count) as show:
            found = prove_all(
                graph,
                files,
                evidence.inputs(graph, evidence.images),
                keras_logits=evidence.keras_logits,
                judge_keras=graph is model_graph or _takes_but_pixels(graph),
                on_images=lambda done, show=show: show(done, ""),
            )
        proven |= dict(zip((form for form, _ in files), found, strict=True))
    return {form: proven[form] for form in graphs}


def _takes_but_pixels(graph: Graph) -> bool:
    """Whether nothing but the input of the model's graph was changed."""
    answers = [graph.tensors[name].qparams for name in graph.outputs]
    return takes_pixels(graph) and answers == [None] * len(answers)


def _package(
    graph: Graph, write: Package, folder: Path, content: bytes, evidence: Evidence
) -> None:
    """Writes a file that passed, with what belongs beside it."""
    write(
        graph,
        folder,
        model=content,
        samples=evidence.inputs(graph, evidence.images[:SAMPLES]),
        pixels={graph.inputs[0]: evidence.images[:SAMPLES]} if evidence.has_pixels else None,
        preprocessing=evidence.preprocessing,
        labels=evidence.class_names,
        scheme=evidence.scheme,
    )


def _write(
    folder: Path,
    contents: Mapping[Format, bytes],
    proven: Mapping[Format, Parity],
    snap: Snap,
    evidence: Evidence,
) -> None:
    """Writes the proofs, beside those of other formats, and then the files."""
    make_folder(folder)
    paths = {
        form: folder / (form.file_name if parity.passed else form.failed_name)
        for form, parity in proven.items()
    }
    for form in contents:
        for name in (form.file_name, form.failed_name):  # never beside another file's proof
            (folder / name).unlink(missing_ok=True)
    made = {
        form.name: _record(folder, paths[form], contents[form], snap, parity)
        for form, parity in proven.items()
    }
    write_json(folder / PARITY_NAME, _other_records(folder, made) | made)
    save_graph(snap.graph, folder / GRAPH_NAME)
    for form, content in contents.items():
        package = form.definition.package
        if package is not None and proven[form].passed:
            _package(snap.graph, package, folder / form.folder, content, evidence)
        else:
            make_folder(paths[form].parent)
            write_bytes(paths[form], content)


def _other_records(folder: Path, made: Mapping[str, object]) -> dict[str, object]:
    """The proofs of formats that are not exported now, whose files are still there."""
    try:
        known = json.loads((folder / PARITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {
        name: record
        for name, record in known.items()
        if name not in made and (folder / record["file"]).exists()
    }


def _accuracy(form: Format, content: bytes, evidence: Evidence) -> float:
    logits = run_logits(form.definition.runner(content), evidence.images, evidence.preprocessing)
    return float(np.mean(logits.argmax(axis=-1) == evidence.labels))


def _record(
    folder: Path, path: Path, content: bytes, snap: Snap, parity: Parity
) -> dict[str, object]:
    snapping = {
        "layers": snap.layers,
        "channels": snap.channels,
        "channels_moved": snap.moved,
        "largest_shift_steps": snap.largest_shift_steps,
    }
    return {
        "file": str(path.relative_to(folder)),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "bias_snapping": snapping,
        **dataclasses.asdict(parity),
    }


def _failure(path: Path, parity: Parity) -> str:
    first = f"first in layer {parity.first_different}; " if parity.first_different else ""
    return (
        f"{path}: the file does not answer as the model does: {parity.codes_different:,} of "
        f"{parity.codes_compared:,} codes differ ({first}a share of {parity.codes_tolerance:g} is "
        f"allowed), logits by up to {parity.logit_difference:.2g} ({parity.tolerance:.0e} is "
        f"allowed), top-1 agreement {parity.top1_agreement:.2%} with the reference and "
        f"{parity.keras_top1_agreement or 0:.2%} with Keras ({KERAS_TOLERANCE:.1%} of the images "
        f"may differ). See {PARITY_NAME} beside it"
    )

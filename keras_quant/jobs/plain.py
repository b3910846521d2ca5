"""Exports a model in a plain kind: float16 weights, dynamic range, int8 weights with int16.

What these files compute is rounded as they run, by rules of the runtime. So they are not proven
code by code, as integer files are: their answers are held to those of the Keras model, within the
tolerance of the kind, and parity.json says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from keras_quant.data import Dataset
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.plain import onnx as plain_onnx
from keras_quant.emit.plain import tflite as plain_tflite
from keras_quant.emit.plain.kinds import DYNAMIC, FP16, KINDS, W8A16, PlainFile
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import EmitError, ParityError, UsageError
from keras_quant.files import remove, sweep, write_together
from keras_quant.graph.ir import Graph
from keras_quant.jobs.export import check_ours, folder_of
from keras_quant.jobs.loaded import load_with_data
from keras_quant.json_codec import to_json
from keras_quant.lower import lower_exactly
from keras_quant.methods.readers import is_quantized, read_activation
from keras_quant.model.metrics import Scores
from keras_quant.model.topology import layers_by_name
from keras_quant.proof.baseline import without_quantizers
from keras_quant.proof.distance import Distance, furthest
from keras_quant.proof.evidence import Evidence, gather
from keras_quant.proof.formats import FORMATS, Format
from keras_quant.proof.record import PARITY_NAME, digest, read_records
from keras_quant.runs import locked
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

RMS_TOLERANCES = {FP16: 0.01, W8A16: 0.1, DYNAMIC: 0.1}
"""By how much answers may differ from the Keras model's, root mean square, as a share of them. One
rounding of float16 is 2**-12 of a weight at most, one of int8 half of 1/127 of a channel's largest.
Over the layers of a resnet8 that came to 0.21 %, 3.7 % and 3.6 % (docs/plain.md); deeper nets make
more of it."""

CALIBRATION_IMAGES = 256
_BATCH = 16
_TARGETS = ("tflite", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainExport:
    """A file of a plain kind whose answers are near enough.

    Attributes:
        format: a key of FORMATS.
        path: of the file.
        size_bytes: its length.
        images: on how many it was compared.
        rms: of its answers' distance from the Keras model's, as a share of these; the largest of
            its outputs.
        tolerance: that it is held to.
        agreement: share of images on which the largest value is the same; None without vectors.
        scores: what its answers are worth, by output and metric.
        keras_scores: what the Keras model's are.
        changed: how many layers have weights of the kind.
        kept: layers that stay in float, and why.
        kernels: what computed the answers.
    """

    format: str
    path: Path
    size_bytes: int
    images: int
    rms: float
    tolerance: float
    agreement: float | None
    scores: Mapping[str, Mapping[str, float]]
    keras_scores: Mapping[str, Mapping[str, float]]
    changed: int
    kept: Mapping[str, str]
    kernels: tuple[str, ...]


def export_plain(
    path: Path,
    kind: str,
    targets: Sequence[str],
    *,
    dataset: str | None,
    preprocess: str | None = None,
    out: Path | None,
    images: int,
    overwrite: bool,
    trust: bool,
    progress: Progress,
) -> tuple[PlainExport, ...]:
    """Exports a run, or a Keras file, in a plain kind; quantizers in it are left out.

    Args:
        path: a run's folder, or a Keras file or SavedModel.
        kind: of KINDS.
        targets: "tflite", "onnx".
        dataset, preprocess, images, overwrite, trust: see `jobs.export.export_path`.
        out: None means export-KIND/ in the run's folder.
    Raises:
        UsageError: the kind or a target is not known, or not written.
        EmitError: a target has no such kind.
        ParityError: a file's answers are further away than the kind's tolerance; it is left under
            model.failed-parity.*.
        KerasQuantError: a subclass says what else is wrong.
    """
    check_kind(kind, targets)
    folder = folder_of(path, out, suffix=f"-{kind}")
    forms = [FORMATS[name] for name in targets]
    if not overwrite:
        check_ours(folder, forms)
    held = locked(path) if out is None else nullcontext()  # no training may change it meanwhile
    with held:
        model, data = load_with_data(
            path, dataset=dataset, preprocess=preprocess, trust=trust, say=progress.say
        )
        return _export(model, data, kind, forms, folder=folder, images=images, progress=progress)


def _export(
    model: keras.Model,
    data: Dataset,
    kind: str,
    forms: Sequence[Format],
    *,
    folder: Path,
    images: int,
    progress: Progress,
) -> tuple[PlainExport, ...]:
    if _has_quantizers(model):
        progress.say("its quantizers are left out: the weights are those of the float model")
        model = without_quantizers(model)
    progress.say("lowering to a graph of floats")
    graph = lower_exactly(model).graph
    ranges = _ranges(graph, data, progress) if kind == W8A16 else {}
    made = {form: _made(graph, form, kind, ranges) for form in forms}
    evidence = gather(model, data, images=images)
    judged = _judge(graph, made, evidence, RMS_TOLERANCES[kind], progress)
    return _write(folder, kind, made, judged)


def check_kind(kind: str, targets: Sequence[str]) -> None:
    """Raises: UsageError: the kind is not known, or not written for a target."""
    problems = []
    if kind not in KINDS:
        problems.append(f"--kind {kind!r} is not known; kinds are integer, {', '.join(KINDS)}")
    others = [name for name in targets if name not in _TARGETS]
    if others:
        problems.append(
            f"--kind {kind} is written for {' and '.join(_TARGETS)}, not for {', '.join(others)}: "
            "TensorRT builds fp16 from a float file itself, and has no int16 activations nor "
            "ranges that are found at run time"
        )
    if problems:
        raise UsageError("; ".join(problems))


def _has_quantizers(model: keras.Model) -> bool:
    return any(
        is_quantized(layer) or read_activation(layer, name) is not None
        for name, layer in layers_by_name(model).items()
    )


def _made(graph: Graph, form: Format, kind: str, ranges: Mapping[str, float]) -> PlainFile:
    if form.name == "onnx":
        made = plain_onnx.make_plain(emit_onnx_x86(graph), kind)
    else:
        made = plain_tflite.make_plain(emit_tflite(graph), kind, ranges=ranges)
    if not made.changed:
        raise EmitError(f"{form.name}: no layer has weights that can be {kind}: {_told(made.kept)}")
    return made


def _told(kept: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in kept.items()) or "there is none"


def _ranges(graph: Graph, data: Dataset, progress: Progress) -> dict[str, float]:
    """How far from 0 the values of each tensor come on training images."""
    names = [node.output for node in graph.nodes]
    runner = FORMATS["tflite"].definition.runner(emit_tflite(graph, outputs=names))
    found: dict[str, float] = {}
    x = data.train.x[:CALIBRATION_IMAGES]
    with progress.bar("calibrating", len(x)) as show:
        for start in range(0, len(x), _BATCH):
            reals = data.reals(x[start : start + _BATCH])
            given = {graph.inputs[0]: reals}
            for name, values in {**given, **runner.run(given)}.items():
                found[name] = max(found.get(name, 0.0), float(np.abs(values).max(initial=0)))
            show(start + len(reals), "")
    return found


@dataclass(slots=True, kw_only=True, eq=False)
class _Judged:
    """What was found of one file."""

    distances: dict[str, Distance]
    scores: Scores
    kernels: tuple[str, ...]
    keras_scores: Scores
    tolerance: float
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def rms(self) -> float:
        return furthest(self.distances.values())

    @property
    def agreement(self) -> float | None:
        found = [one.agreement for one in self.distances.values() if one.agreement is not None]
        return min(found, default=None)

    @property
    def images(self) -> int:
        return next(iter(self.distances.values())).images

    @property
    def passed(self) -> bool:
        return bool(self.rms <= self.tolerance)


def _judge(
    graph: Graph,
    made: Mapping[Format, PlainFile],
    evidence: Evidence,
    tolerance: float,
    progress: Progress,
) -> dict[Format, _Judged]:
    """Compares the files' answers with the Keras model's."""
    metrics = {
        name: found for name, found in zip(graph.outputs, evidence.metrics, strict=True) if found
    }
    runners = {form: form.definition.runner(one.content) for form, one in made.items()}
    keras_scores = Scores(metrics=metrics)
    judged = {
        form: _Judged(
            distances={name: Distance() for name in graph.outputs},
            scores=Scores(metrics=metrics),
            kernels=runner.info.kernels,
            keras_scores=keras_scores,
            tolerance=tolerance,
        )
        for form, runner in runners.items()
    }
    count, done = len(evidence.images), 0
    progress.say(f"comparing with the Keras model on {count:,} test images")
    with progress.bar("comparing", count) as show:
        for batch in evidence.batches():
            wanted = dict(zip(graph.outputs, batch.keras, strict=True))
            targets = dict(zip(graph.outputs, batch.targets, strict=True))
            targets = {name: targets[name] for name in metrics}
            keras_scores.add(wanted, targets)
            for form, runner in runners.items():
                found = runner.run(evidence.inputs(graph, batch.images))
                judged[form].scores.add(found, targets)
                for name, distance in judged[form].distances.items():
                    distance.add(found[name], wanted[name])
            done += len(batch.images)
            show(done, "")
    return judged


def _write(
    folder: Path, kind: str, made: Mapping[Format, PlainFile], judged: Mapping[Format, _Judged]
) -> tuple[PlainExport, ...]:
    """Writes the files, those that failed under another name, and parity.json last."""
    exports, records, contents, gone = [], {}, {}, []
    for form, one in made.items():
        found = judged[form]
        name = form.file_name if found.passed else form.failed_name
        gone += [folder / n for n in (form.file_name, form.failed_name) if n != name]
        contents[folder / name] = one.content
        export = PlainExport(
            format=form.name,
            path=folder / name,
            size_bytes=len(one.content),
            images=found.images,
            rms=found.rms,
            tolerance=found.tolerance,
            agreement=found.agreement,
            scores=found.scores.means(),
            keras_scores=found.keras_scores.means(),
            changed=len(one.changed),
            kept=one.kept,
            kernels=found.kernels,
        )
        exports.append(export)
        records[form.name] = _record(export, kind, one.content, passed=found.passed)
    with locked(folder, wait=True):
        sweep(folder)
        others = {n: r for n, r in read_records(folder).items() if n not in records}
        contents[folder / PARITY_NAME] = f"{to_json({**others, **records})}\n".encode()
        write_together(contents)
        for file in gone:
            remove(file)
    failed = [one for one in exports if not judged[FORMATS[one.format]].passed]
    if failed:
        raise ParityError("\n".join(_failure(one, kind) for one in failed))
    return tuple(exports)


def _record(export: PlainExport, kind: str, content: bytes, *, passed: bool) -> dict[str, object]:
    return {
        "file": export.path.name,
        "sha256": digest(content),
        "size_bytes": export.size_bytes,
        "kind": kind,
        "proof": "answers within a tolerance of the Keras model's; no codes are compared",
        "images": export.images,
        "rms": export.rms,
        "rms_tolerance": export.tolerance,
        "agreement": export.agreement,
        "scores": export.scores,
        "keras_scores": export.keras_scores,
        "layers_changed": export.changed,
        "layers_kept_in_float": export.kept,
        "kernels": export.kernels,
        "passed": passed,
    }


def _failure(export: PlainExport, kind: str) -> str:
    return (
        f"{export.path}: its answers are {export.rms:.2%} from the Keras model's, root mean "
        f"square; {export.tolerance:.0%} is the tolerance of {kind}. See {PARITY_NAME} beside it"
    )

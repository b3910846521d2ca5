"""How a run ends, whatever gave its model: lowered, saved, evaluated once, exported and proven."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable, Mapping, Sequence

from keras_quant.data import Dataset
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import LoweringError
from keras_quant.graph.costs.cost import cost
from keras_quant.jobs.draws import elbo_over_draws
from keras_quant.jobs.export import Exported, say_masked_dense, stored_limits
from keras_quant.jobs.preprocess import guessing_warning, tried_on
from keras_quant.lower import Snap, lower, lower_exactly
from keras_quant.model.files import save_model
from keras_quant.model.metrics import SHARES
from keras_quant.model.tasks import last_classifier
from keras_quant.pixels import normalize
from keras_quant.preprocessing import Preprocessing
from keras_quant.proof.baseline import float_tflite
from keras_quant.proof.evidence import Evidence, gather
from keras_quant.proof.formats import Format
from keras_quant.proof.gate import prove_formats
from keras_quant.proof.keras_answers import KerasAnswers, Values
from keras_quant.proof.write import Export, write_proven
from keras_quant.runs import RunFolder, records
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import Figure, RunRecord
from keras_quant.tf import keras

TITLES = {"tflite": "TFLite", "onnx": "ONNX", "tensorrt": "TensorRT"}


def finish(
    model: keras.Model,
    source: keras.Model,
    dataset: Dataset,
    folder: RunFolder,
    record: RunRecord,
    formats: Sequence[Format],
    *,
    beside_float: bool = False,
    also: Sequence[Figure] = (),
    progress: Progress,
) -> tuple[RunRecord, Exported]:
    """Snaps, saves, touches the test set once, exports and proves.

    Args:
        model: fake-quantized, or in float; its biases are moved.
        source: the float model that it was made of.
        beside_float: evaluate the source too, and compare their answers.
        also: further figures of the run, which has them as soon as it is finished.
    Returns: the record with its figures, as saved; and what the model and its files answer.
    Raises:
        LoweringError, EmitError: the model cannot be lowered, or written for a target.
        ParityError: a file does not answer as the reference does.
    """
    save_model(model, folder.model)  # first, so that nothing that is refused below loses it
    progress.say("lowering to the integer graph")
    before = model.get_weights()
    snap = lower_exactly(model, limits=stored_limits(formats))
    save_model(model, folder.model)
    evidence = gather(
        model,
        dataset,
        scheme=str(record.scheme["name"]),
        before=before if snap.moved else None,
        source=source if beside_float else None,
    )
    say_masked_dense(model, evidence, progress)
    proven = prove_formats(snap, formats, evidence, progress=progress)
    is_classifier = bool(len(proven.best))
    if is_classifier and _answers_alone(record):
        others = _others(evidence)
        if warning := guessing_warning(proven.best, evidence.labels, dataset, others):
            progress.say(f"warning: {warning}")
    named = _elbo_figures if dataset.elbo else _of_outputs
    names = dict(zip(proven.keras.outputs, evidence.output_names, strict=True))
    figures = _of_outputs(_called(proven.keras.input_scores, names), "noisy images")
    figures += named(_called(proven.keras.scores, names), "Keras model")
    drawn = elbo_over_draws(model, dataset) if dataset.elbo else None
    if drawn is not None:
        figures += (_nats("negative ELBO over draws", -drawn, "Keras model"),)
    if beside_float:
        figures += named(_called(proven.keras.source_scores, names), "float model")
        figures += _beside_float(proven.keras, names, ranked=not dataset.elbo)
    record = dataclasses.replace(
        record,
        status="trained" if record.training else "quantized",
        figures=(*figures, *_sizes(snap, source)),
    )
    records.save(record, folder.path)
    exports = write_proven(proven, folder.export)
    ranked = not dataset.elbo
    measured = [
        figure
        for export in exports
        for figure in _of_file(export, evidence.output_names, named, ranked=ranked)
    ]
    if record.training and (record.training.keep_zeros or record.training.keep_clusters):
        measured += map(_packed, exports)
    record = dataclasses.replace(
        record, status="exported", figures=(*record.figures, *measured, *also)
    )
    records.save(record, folder.path)
    return record, Exported(keras=proven.keras, files=exports)


def _answers_alone(record: RunRecord) -> bool:
    """Whether a run is to be right by itself, and not only together with other members."""
    training = record.training
    return training is None or not (training.boosts or training.together)


def _others(evidence: Evidence) -> Callable[[Preprocessing], float] | None:
    """Accuracy of the float model under another preprocessing, where it was trained elsewhere."""
    answer = evidence.source
    place = last_classifier(evidence.tasks)
    if answer is None or place is None:
        return None
    return tried_on(
        evidence.images, evidence.labels, lambda x, becomes: answer(normalize(x, becomes))[place]
    )


def _called(values: Values, names: Mapping[str, str]) -> Values:
    """Calls outputs by other names than their graph does."""
    return {names[name]: scores for name, scores in values.items()}


def _beside_float(
    keras: KerasAnswers, names: Mapping[str, str], *, ranked: bool
) -> tuple[Figure, ...]:
    """How far the quantized model is from the float one.

    Args:
        names: of outputs, by their names in the graph.
        ranked: whether the largest value of a vector says something, as it does of classes, and
            not of a posterior.
    """
    figures: tuple[Figure, ...] = ()
    for output in keras.quantization:
        whose = _named("float and quantized", names[output.name], len(keras.quantization))
        if ranked and output.top1_agreement is not None:
            figures += (_percent("top-1 agreement", output.top1_agreement, whose),)
        figures += (_percent("root mean square difference", output.relative, whose),)
    return figures


def _of_file(
    export: Export,
    outputs: Sequence[str],
    named: Callable[[Values, str], tuple[Figure, ...]],
    *,
    ranked: bool,
) -> tuple[Figure, ...]:
    names = dict(zip((each.name for each in export.parity.outputs), outputs, strict=True))
    title = TITLES[export.format]
    agreement = export.parity.keras_top1_agreement
    size = Figure(name="size", value=export.size_bytes, unit="bytes", notes=f"integer {title} file")
    figures = named(_called(export.scores, names), f"{title} file")
    if ranked and agreement is not None:
        figures += (_percent("top-1 agreement", agreement, f"Keras and {title}"),)
    return (*figures, size)


def _packed(export: Export) -> Figure:
    """What pruning and clusters are for: the file as gzip packs it."""
    size = len(gzip.compress(export.path.read_bytes()))
    notes = f"integer {TITLES[export.format]} file"
    return Figure(name="gzip size", value=size, unit="bytes", notes=notes)


def _of_outputs(scores: Values, whose: str) -> tuple[Figure, ...]:
    """What outputs are worth."""
    return tuple(
        _figure(metric, value, _named(whose, name, len(scores)))
        for name, values in scores.items()
        for metric, value in values.items()
    )


def _elbo_figures(scores: Values, whose: str) -> tuple[Figure, ...]:
    """What a variational autoencoder is worth: the sum of its outputs' losses, and each.

    The pixels' likelihood is that at the posterior's mean, which the decoder reads in inference,
    and not its mean over draws.
    """
    total = sum(values["loss"] for values in scores.values())
    parts = (dataclasses.replace(one, unit="nats") for one in _of_outputs(scores, whose))
    return _nats("negative ELBO", total, whose), *parts


def _nats(name: str, value: float, whose: str) -> Figure:
    return Figure(name=name, value=value, unit="nats", split="test", notes=whose)


def _named(whose: str, output: str, outputs: int) -> str:
    """Names the output where there are several."""
    return whose if outputs == 1 else f"{whose}, output {output}"


def _figure(metric: str, value: float, notes: str) -> Figure:
    if metric in SHARES:
        return _percent(metric, value, notes)
    unit = "dB" if metric == "PSNR" else ""
    return Figure(name=metric, value=value, unit=unit, split="test", notes=notes)


def _percent(name: str, share: float, notes: str) -> Figure:
    return Figure(name=name, value=100 * share, unit="%", split="test", notes=notes)


def _sizes(snap: Snap, source: keras.Model) -> tuple[Figure, ...]:
    total = cost(snap.graph)
    return (
        Figure(name="size", value=_float_bytes(source), unit="bytes", notes="float TFLite file"),
        Figure(name="parameters", value=total.parameters),
        Figure(
            name="logical size",
            value=total.kernel_bits,
            unit="bits",
            notes="kernels at the scheme's widths",
        ),
        Figure(name="MACs", value=total.macs, notes="one image"),
        Figure(name="bit operations", value=total.bit_operations, notes="one image"),
        Figure(name="energy", value=total.energy_nj, unit="nJ", notes="one image, modelled"),
    )


def _float_bytes(source: keras.Model) -> int:
    """Size of the float model's TFLite file: our own, as large as the converter's and soon made.

    Some layers are lowered between codes only; models with these take the converter.
    """
    try:
        return len(emit_tflite(lower(source)))
    except LoweringError:
        return len(float_tflite(source))

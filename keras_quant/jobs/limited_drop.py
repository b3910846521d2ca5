"""Layers left at 8 bits, worst first, until a model is near enough to its float model."""

from __future__ import annotations

import dataclasses
import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_quant.data import Dataset, Split
from keras_quant.errors import AccuracyError, UsageError
from keras_quant.model.logits import AnswerFunction
from keras_quant.model.operations import describe
from keras_quant.prepare import plan
from keras_quant.prepare.blocks import as_scheme_block, group_blocks
from keras_quant.runs.progress import Progress
from keras_quant.runs.records import Lift, RunRecord
from keras_quant.schemes.scheme import BlockBits, QuantSpec, Rule, Scheme, resolve
from keras_quant.tf import keras

WIDE = 8
# Images on which layers are compared: their error there only orders them.
RANKING_IMAGES = 256
_SUFFIX = "+lifted"
BATCH = 100

Fit = Callable[[Scheme], keras.Model]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limited:
    """A model that is near enough, and how it came to that.

    Attributes:
        model: quantized.
        scheme: that it has.
        lifts: the layers that were left at 8 bits, in order.
        lost: points that it is short of the float model, on the images held out.
    """

    model: keras.Model
    scheme: Scheme
    lifts: tuple[Lift, ...]
    lost: float


def limit_drop(
    source: keras.Model,
    scheme: Scheme,
    dataset: Dataset,
    *,
    most: float,
    fit: Fit,
    sketch: Fit,
    progress: Progress,
) -> Limited:
    """Leaves layers at 8 bits until accuracy is within some points of the float model's.

    It is measured on validation images, which are taken from the training images, and on which
    nothing is calibrated; where there are no labels, by the images on which the largest answer is
    another. Layers come in the order of the error that each alone makes in the model's answers:
    all others have 8 bits then.

    Args:
        scheme: to begin with.
        most: points that may be lost, at least 0.
        fit: gives the model of a scheme, with all that is done against errors.
        sketch: likewise, in less time, for comparing layers.
    Raises:
        UsageError: the model has several inputs or outputs, or none that tells classes apart.
        AccuracyError: with all layers at 8 bits it still loses more.
    """
    judge = _Judge(source, dataset)
    model = fit(scheme)
    lost = judge.lost(model)
    progress.say(f"{judge.what}: {lost:.2f} points lost, {most:g} are allowed")
    lifts: list[Lift] = []
    waiting: list[str] | None = None
    while lost > most:
        if waiting is None:
            waiting = _worst_first(source, scheme, dataset, sketch, progress)
        if not waiting:
            raise AccuracyError(
                f"{lost:.2f} points are lost ({judge.what}) with all layers at {WIDE} bits, where "
                f"--max-drop allows {most:g}; allow more, or try --rounding blocks and --equalize "
                "activations"
            )
        name = waiting.pop(0)
        scheme = _lifted(source, scheme, [name])
        model, before = fit(scheme), lost
        lost = judge.lost(model)
        lifts.append(Lift(layer=name, before=before, after=lost))
        progress.say(f"{name} to {WIDE} bits: from {before:.2f} to {lost:.2f} points lost")
    return Limited(model=model, scheme=scheme, lifts=tuple(lifts), lost=lost)


def as_asked(record: RunRecord) -> RunRecord:
    """A record without what `limit_drop` has added: the scheme before any layer was lifted."""
    quantization = record.quantization
    if quantization is None or quantization.lost is None:
        return record
    rules = record.scheme["rules"]
    own = str(record.scheme["name"]).removesuffix(_SUFFIX)
    before = {"name": own, "rules": rules[: len(rules) - len(quantization.lifts)]}
    return dataclasses.replace(
        record,
        scheme={**record.scheme, **before},
        quantization=dataclasses.replace(quantization, lifts=(), lost=None),
    )


class _Judge:
    """Compares models with a float one, on images that were held out."""

    def __init__(self, source: keras.Model, dataset: Dataset) -> None:
        several = len(source.inputs) > 1 or len(source.outputs) > 1
        shape = [] if several else list(source.output_shape)[1:]
        if len(shape) != 1 or (dataset.has_labels and shape[0] != dataset.num_classes):
            raise UsageError(
                "--max-drop is for models with one input and one output that tells classes apart; "
                "leave it out"
            )
        self._dataset, self._images = dataset, dataset.validation
        if not len(self._images):
            raise UsageError("--max-drop needs validation images, and this dataset has none")
        self._wanted = _best(source, dataset, self._images)
        kind = "accuracy" if dataset.has_labels else "agreement"
        self.what = f"{kind} on {len(self._images):,} training images that were held out"

    def lost(self, model: keras.Model) -> float:
        """Points that a model loses."""
        found = _best(model, self._dataset, self._images)
        if not self._dataset.has_labels:
            return float(100 * np.mean(found != self._wanted))
        labels = self._images.y
        return float(100 * (np.mean(self._wanted == labels) - np.mean(found == labels)))


def _best(model: keras.Model, dataset: Dataset, images: Split) -> np.ndarray:
    return np.asarray(_answers(model, dataset, images.x).argmax(axis=1))


def _answers(model: keras.Model, dataset: Dataset, images: np.ndarray) -> np.ndarray:
    answer = AnswerFunction(model)
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return np.concatenate([answer(np.asarray(dataset.reals(x), np.float32))[0] for x in parts])


def _worst_first(
    source: keras.Model, scheme: Scheme, dataset: Dataset, sketch: Fit, progress: Progress
) -> list[str]:
    """The layers with fewer bits than 8, by the error that each of them makes alone."""
    names = list(_narrow(source, scheme))
    images = dataset.train.x[:: max(1, len(dataset.train) // RANKING_IMAGES)]
    wanted = _answers(source, dataset, images)
    errors = {}
    progress.say(f"comparing {len(names)} layers with fewer than {WIDE} bits, each alone")
    with progress.bar("layers", len(names)) as show:
        for place, name in enumerate(names):
            show(place, name)
            others = [other for other in names if other != name]
            found = _answers(sketch(_lifted(source, scheme, others)), dataset, images)
            errors[name] = float(np.mean(np.square(found - wanted)))
    return sorted(names, key=lambda name: -errors[name])


def _narrow(source: keras.Model, scheme: Scheme) -> Iterator[str]:
    """Names of layers whose kernels, or what they put out, are rounded to fewer bits than 8."""
    planned = plan(source, scheme)
    rounded = {point.after for point in planned.points if point.spec.bits < WIDE}
    for block in group_blocks(planned.operations):
        name = block[0].layer_name
        kernel = planned.weights.get(name)
        if (kernel is not None and kernel.bits < WIDE) or block[-1].name in rounded:
            yield name


def _bits(source: keras.Model, scheme: Scheme) -> dict[str, BlockBits]:
    """What a scheme says of all layers, but for the model's inputs."""
    blocks = [as_scheme_block(block) for block in group_blocks(describe(source))]
    found = resolve(scheme, blocks)
    return {b.names[0]: found[b.names[0]] for b in blocks if not b.is_input}


def _lifted(source: keras.Model, scheme: Scheme, names: list[str]) -> Scheme:
    """The scheme with some layers at 8 bits."""
    bits = _bits(source, scheme)
    rules = [
        Rule(
            match=glob.escape(name),
            weight=_wide(bits[name].weight) if bits[name].weight.bits < WIDE else None,
            activation=_wide(bits[name].activation) if bits[name].activation.bits < WIDE else None,
        )
        for name in names
    ]
    own = scheme.name.removesuffix(_SUFFIX)
    return dataclasses.replace(scheme, name=own + _SUFFIX, rules=(*scheme.rules, *rules))


def _wide(spec: QuantSpec) -> QuantSpec:
    """The same numbers with 8 bits; kernels leave out the lowest code then, see `bits`."""
    return dataclasses.replace(spec, bits=WIDE)

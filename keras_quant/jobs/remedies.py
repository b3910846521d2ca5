"""What a job changes in a model without training: before activations are rounded, and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_quant.calibration.collect import Statistics, collect
from keras_quant.calibration.data_free import without_norms
from keras_quant.data import Dataset
from keras_quant.errors import UsageError, close_names
from keras_quant.jobs.calibration import calibration_images
from keras_quant.jobs.kept_rounding import KeptOnDisk, key_of
from keras_quant.prepare import Plan
from keras_quant.prepare.adjust.absorb import absorb_biases
from keras_quant.prepare.adjust.drawn import draw_channels
from keras_quant.prepare.adjust.equalize import (
    Channels,
    Equalized,
    equalize_activations,
    equalize_weights,
    scalable,
)
from keras_quant.prepare.adjust.learn import Learning
from keras_quant.prepare.adjust.reconstruct import (
    LEARNED,
    LEARNING_IMAGES,
    RECONSTRUCTION_IMAGES,
    ROUNDINGS,
    reconstruct,
)
from keras_quant.prepare.adjust.walk import walked_images
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras
from keras_quant.training.norms import reestimate_norms

EQUALIZERS = ("none", "weights", "activations")
CORRECTIONS = ("analytical", "empirical")
# Images on which ranges of channels are seen; the scales that come of them are no grids yet.
EQUALIZATION_IMAGES = 256
# Of these, images of which values of channels are looked at.
DRAWN_IMAGES = 64
# For statistics of batch norms, in batches of so many.
NORM_IMAGES, NORM_BATCH = 1024, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What is done against the errors of rounding; each a name.

    Attributes:
        equalize: of EQUALIZERS, see `prepare.adjust.equalize`.
        rounding: of ROUNDINGS, see `prepare.adjust.descent` and `prepare.adjust.adaround`.
        bias: of CORRECTIONS: from the means of what layers read in the float model, or from what
            they answer in the quantized one. Another rounding than the nearest has the second.
        learning: how rounding is learned, where it is.
    """

    equalize: str = "none"
    rounding: str = "nearest"
    bias: str = "analytical"
    learning: Learning = Learning()

    @property
    def is_learned(self) -> bool:
        """Whether rounding is learned."""
        return self.rounding in LEARNED

    def problems(self) -> list[str]:
        """Names that are none, one text each."""
        known = {"equalize": EQUALIZERS, "rounding": ROUNDINGS, "bias": CORRECTIONS}
        given = {option: getattr(self, option) for option in known}
        found = [
            f"--{option} is {name!r}{close_names(name, known[option])}; "
            f"{', '.join(known[option])} are known"
            for option, name in given.items()
            if name not in known[option]
        ]
        if self.learning.steps < 1:
            found.append(f"--rounding-steps is {self.learning.steps}; 1 or more is allowed")
        if not 0 <= self.learning.drop < 1:
            found.append(f"--qdrop is {self.learning.drop:g}; 0 up to, but not, 1 is allowed")
        usual, own = Learning(), self.learning
        changed = {
            "--rounding-steps": own.steps != usual.steps,
            "--qdrop": own.drop != usual.drop,
        }
        asked = " and ".join(option for option, differs in changed.items() if differs)
        if asked and not self.is_learned and self.rounding in ROUNDINGS:
            found.append(
                f"{asked}: only of a rounding that is learned, and --rounding is {self.rounding}; "
                f"give --rounding {' or '.join(LEARNED)} too"
            )
        return found


def default_bias(plan: Plan, *, has_images: bool) -> str:
    """The correction of biases where nobody asked for one.

    The empirical one also knows what rounding activations does to means: a channel that is one
    constant, as behind a ReLU that never answers and a batch norm, is off by the same everywhere.

    Args:
        has_images: whether training images may be looked at.
    """
    has_kernels = any(not spec.is_float for spec in plan.weights.values())
    is_walked = has_images and has_kernels and len(plan.operations.inputs) == 1
    return "empirical" if is_walked else Remedies().bias


def equalized(
    plan: Plan, source: keras.Model, dataset: Dataset, kind: str, progress: Progress
) -> Equalized:
    """Scales channels of a float model, which computes what it did.

    Args:
        kind: of EQUALIZERS, but for "none".
    """
    if kind == "weights":
        found = equalize_weights(plan, source)
    else:
        names = scalable(plan)
        x = calibration_images(dataset, EQUALIZATION_IMAGES)
        progress.say(f"equalizing channels by their ranges on {len(x):,} training images")
        seen = collect(plan, source, x, reals=dataset.reals, per_channel=names)
        drawn = draw_channels(plan, source, x[:DRAWN_IMAGES], names, reals=dataset.reals)
        found = equalize_activations(plan, source, _channels(seen, drawn))
    progress.say(f"channels of {len(found.scales)} tensors were scaled")
    return found


def absorbed(plan: Plan, source: keras.Model, progress: Progress) -> keras.Model:
    """Takes high biases out of activations, see `prepare.adjust.absorb`."""
    found = absorb_biases(plan, source)
    moved = ", ".join(f"{count} channels of {name}" for name, count in found.channels.items())
    progress.say(f"high biases absorbed: {moved or 'none are'}")
    return found.model


def said_of_norms(plan: Plan) -> str:
    """How ranges were found without images."""
    guessed = without_norms(plan)
    text = "ranges of activations come from batch norms, no image was looked at"
    if guessed:
        text += f"; without a batch norm, from what they read: {', '.join(guessed)}"
    return text


def norms_measured(model: keras.Model, dataset: Dataset) -> str:
    """Measures statistics of a quantized model's batch norms again; says of how many."""
    x = calibration_images(dataset, NORM_IMAGES)
    size = min(NORM_BATCH, len(x))
    starts = range(0, len(x) - size + 1, size)
    batches = (np.asarray(dataset.reals(x[s : s + size]), np.float32) for s in starts)
    return f"measured the statistics of {reestimate_norms(model, batches)} batch norms again"


def _channels(seen: Statistics, drawn: Mapping[str, np.ndarray]) -> Mapping[str, Channels]:
    found = {name: seen.tensors[name].channels for name in drawn}
    return {
        name: Channels(
            low=known.low, high=known.high, mean_square=known.mean_square, drawn=drawn[name]
        )
        for name, known in found.items()
        if known is not None
    }


def repaired(
    plan: Plan,
    source: keras.Model,
    model: keras.Model,
    dataset: Dataset,
    remedies: Remedies,
    progress: Progress,
    *,
    folder: Path | None = None,
) -> None:
    """Rounds kernels and corrects biases by what layers answer, where that is asked for.

    Args:
        source: the float model that the plan is of, and that the model was made of.
        model: quantized; its weights are changed.
        folder: the run's, which keeps learned rounding layer by layer, and where it is looked for.
    Raises:
        UsageError: the model takes several inputs.
        FileError: what was learned cannot be kept.
    """
    if remedies.rounding == "nearest" and remedies.bias == "analytical":
        return
    if len(plan.operations.inputs) > 1:
        raise UsageError(
            "--rounding and --bias empirical are for models of one input; this one has "
            f"{len(plan.operations.inputs)}: leave them out"
        )
    most = LEARNING_IMAGES if remedies.rounding != "nearest" else RECONSTRUCTION_IMAGES
    count = walked_images(plan, most, is_growing=remedies.rounding != "nearest")
    x = calibration_images(dataset, count)
    x = x[np.random.default_rng(remedies.learning.seed).permutation(len(x))]
    kept = None
    if folder is not None and remedies.is_learned:
        settings = {"rounding": remedies.rounding, **asdict(remedies.learning)}
        kept = KeptOnDisk(folder, key_of(model, x, settings))
        if kept.is_of_others:
            progress.say("what was kept is of other bits, images or versions: learned anew")
    total = sum(1 for spec in plan.weights.values() if not spec.is_float)
    what = "rounding kernels and correcting" if remedies.rounding != "nearest" else "correcting"
    how = "block by block" if remedies.rounding == "blocks" else "layer by layer"
    progress.say(f"{what} biases, {how}, on {len(x):,} training images")
    with progress.bar("layers", total) as show:
        found = reconstruct(
            plan,
            source,
            model,
            [np.asarray(dataset.reals(x), np.float32)],
            rounding=remedies.rounding,
            learning=remedies.learning,
            kept=kept,
            on_layer=show,
        )
    if found.restored:
        progress.say(f"{found.restored} of {total} kernels had been rounded before the run stopped")
    if found.nearest:
        progress.say(f"rounded to the nearest codes all the same: {', '.join(found.nearest)}")

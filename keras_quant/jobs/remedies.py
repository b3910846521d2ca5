"""What a job changes in a model without training: before activations are rounded, and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keras_quant.calibration.collect import Statistics, collect
from keras_quant.data import Dataset
from keras_quant.errors import UsageError, close_names
from keras_quant.jobs.calibration import calibration_images
from keras_quant.prepare import Plan
from keras_quant.prepare.adjust.equalize import (
    Channels,
    Equalized,
    equalize_activations,
    equalize_weights,
    scalable,
)
from keras_quant.prepare.adjust.reconstruct import (
    RECONSTRUCTION_IMAGES,
    ROUNDINGS,
    reconstruct,
)
from keras_quant.prepare.adjust.walk import walked_images
from keras_quant.runs.progress import Progress
from keras_quant.tf import keras

EQUALIZERS = ("none", "weights", "activations")
CORRECTIONS = ("analytical", "empirical")
# Images on which ranges of channels are seen; the scales that come of them are no grids yet.
EQUALIZATION_IMAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedies:
    """What is done against the errors of rounding; each a name.

    Attributes:
        equalize: of EQUALIZERS, see `prepare.adjust.equalize`.
        rounding: of ROUNDINGS, see `prepare.adjust.descent`.
        bias: of CORRECTIONS: from the means of what layers read in the float model, or from what
            they answer in the quantized one. Another rounding than the nearest has the second.
    """

    equalize: str = "none"
    rounding: str = "nearest"
    bias: str = "analytical"

    def problems(self) -> list[str]:
        """Names that are none, one text each."""
        known = {"equalize": EQUALIZERS, "rounding": ROUNDINGS, "bias": CORRECTIONS}
        given = {option: getattr(self, option) for option in known}
        return [
            f"--{option} is {name!r}{close_names(name, known[option])}; "
            f"{', '.join(known[option])} are known"
            for option, name in given.items()
            if name not in known[option]
        ]


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
        found = equalize_activations(plan, source, _channels(seen, names))
    progress.say(f"channels of {len(found.scales)} tensors were scaled")
    return found


def _channels(seen: Statistics, names: tuple[str, ...]) -> Mapping[str, Channels]:
    found = {name: seen.tensors[name].channels for name in names}
    return {
        name: Channels(low=known.low, high=known.high, mean_square=known.mean_square)
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
) -> None:
    """Rounds kernels and corrects biases by what layers answer, where that is asked for.

    Args:
        source: the float model that the plan is of, and that the model was made of.
        model: quantized; its weights are changed.
    Raises:
        UsageError: the model takes several inputs.
    """
    if remedies.rounding == "nearest" and remedies.bias == "analytical":
        return
    if len(plan.operations.inputs) > 1:
        raise UsageError(
            "--rounding and --bias empirical are for models of one input; this one has "
            f"{len(plan.operations.inputs)}: leave them out"
        )
    x = calibration_images(dataset, walked_images(plan, RECONSTRUCTION_IMAGES))
    total = sum(1 for spec in plan.weights.values() if not spec.is_float)
    what = "rounding kernels and correcting" if remedies.rounding != "nearest" else "correcting"
    progress.say(f"{what} biases, layer by layer, on {len(x):,} training images")
    with progress.bar("layers", total) as show:
        found = reconstruct(
            plan,
            source,
            model,
            [np.asarray(dataset.reals(x), np.float32)],
            rounding=remedies.rounding,
            on_layer=show,
        )
    if found.nearest:
        progress.say(f"rounded to the nearest codes all the same: {', '.join(found.nearest)}")

"""Layer by layer: kernels rounded for what the layer answers, biases for its means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from keras_quant.graph.ir import Weight
from keras_quant.methods.readers import read_kernel, write_kernel
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare.adjust.correct_bias import add_bias, kernel_of_layer
from keras_quant.prepare.adjust.descent import descend
from keras_quant.prepare.adjust.patches import KINDS, as_kernel, as_rows, moments
from keras_quant.prepare.adjust.walk import Site, run, walk
from keras_quant.prepare.plan import Plan
from keras_quant.tf import keras

ROUNDINGS = ("nearest", "descent")
# Of a channel's mean error, what may be added to its bias.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
# More images than these were not seen to help, and a walk holds their values in memory.
RECONSTRUCTION_IMAGES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstructed:
    """What a walk changed.

    Attributes:
        rounded: layers whose codes were looked for.
        nearest: layers whose codes are the nearest to their weights, though others were asked for.
    """

    rounded: tuple[str, ...]
    nearest: tuple[str, ...]


def reconstruct(
    plan: Plan,
    source: keras.Model,
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    rounding: str = "nearest",
    on_layer: Callable[[int, str], None] = lambda done, name: None,
) -> Reconstructed:
    """Takes errors out of a quantized model, layer by layer in its order.

    Each layer reads what the layers before it give after they were changed, and is to put out what
    it does in the float model. Its codes are looked for, where that is asked for, and then its
    bias is moved by what the mean of each channel is off: the empirical correction of Nagel et al.,
    "Data-Free Quantization" (2019), appendix D, which also knows what rounding activations does.

    Args:
        model: wrapped, with scales; its kernels and biases are changed.
        images: float32 for each input, as the model takes them.
        rounding: of ROUNDINGS.
        on_layer: told how many layers are done, and which one is next.
    """
    layers = layers_by_name(model)
    rounded: list[str] = []
    visited: list[str] = []

    def visit(site: Site) -> None:
        on_layer(len(visited), site.layer.name)
        visited.append(site.layer.name)
        free = plan.weights[site.operation.layer_name].per_channel
        if rounding == "descent" and _round(site, is_scale_free=free):
            rounded.append(site.layer.name)
        add_bias(plan, layers, site.operation, _off(plan, site))

    walk(plan, source, model, images, visit)
    kernels = [name for name, spec in plan.weights.items() if not spec.is_float]
    nearest = [name for name in kernels if name not in rounded] if rounding != "nearest" else []
    return Reconstructed(rounded=tuple(rounded), nearest=tuple(nearest))


def _off(plan: Plan, site: Site) -> np.ndarray:
    """What is to be added to a layer's answer: float64 (channels,).

    The mean of what it is off, or a part of it: that which errs least behind the batch norm and
    ReLU that follow. Where few large values were cut off, their share of the mean would move all
    others too.
    """
    answer = run(site.layer, [site.read])
    axes = tuple(range(answer.ndim - 1))
    off = (site.wanted.astype(np.float64) - answer).mean(axis=axes)
    wanted = _behind(plan, site, site.wanted)
    errors = []
    for share in SHARES:
        moved = _behind(plan, site, answer + (share * off).astype(np.float32))
        errors.append(np.square(moved - wanted).mean(axis=axes))
    return np.asarray(off * np.asarray(SHARES)[np.argmin(errors, axis=0)], np.float64)


def _behind(plan: Plan, site: Site, values: np.ndarray) -> np.ndarray:
    """What the float batch norms and the ReLU make of values that alone read a layer."""
    readers = plan.operations.readers[site.operation.name]
    while len(readers) == 1 and readers[0].kind in ("batch_norm", "relu"):
        (reader,) = readers
        if reader.kind == "relu":
            return np.asarray(np.clip(values, 0, reader.max_value), np.float32)
        values = run(reader.layer, [values])
        readers = plan.operations.readers[reader.name]
    return values


def _round(site: Site, *, is_scale_free: bool) -> bool:
    """Looks for a kernel's codes; False where they stay the nearest."""
    before = read_kernel(site.layer)
    if before is None or before.scale is None or site.operation.kind not in KINDS:
        return False
    if before.bits == 1:
        return False
    kernel = kernel_of_layer(site.operation.layer)
    scale = np.broadcast_to(before.scale, kernel.shape)
    rows = as_rows(kernel, site)
    qmax = 2 ** (before.bits - 1) - 1
    found = descend(
        rows,
        as_rows(scale, site)[..., :1],
        moments(site),
        qmax=qmax,
        is_scale_free=is_scale_free,
    )
    steps = np.broadcast_to(found.scale, rows.shape)
    weight = Weight(
        values=as_kernel(found.codes, kernel.shape).astype(np.int16),
        scale=as_kernel(steps, kernel.shape),
        bits=before.bits,
    )
    return write_kernel(site.layer, weight)

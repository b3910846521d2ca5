"""Layer by layer, or block by block: kernels rounded for what is answered, biases for its means."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_quant.graph.ir import Weight
from keras_quant.methods.readers import read_kernel, write_kernel
from keras_quant.methods.twins import float_kernel
from keras_quant.model.topology import layers_by_name
from keras_quant.prepare.adjust.adaround import Part, Seen, behind, round_block, round_layer
from keras_quant.prepare.adjust.correct_bias import add_bias
from keras_quant.prepare.adjust.descent import Rounded, descend
from keras_quant.prepare.adjust.learn import Learning
from keras_quant.prepare.adjust.mean_error import mean_error
from keras_quant.prepare.adjust.patches import KINDS, Patches, as_kernel, as_rows, draw, moments
from keras_quant.prepare.adjust.units import Unit
from keras_quant.prepare.adjust.values import run
from keras_quant.prepare.adjust.walk import Site, Walk, rounded_sites
from keras_quant.prepare.plan import Plan
from keras_quant.tf import keras

ROUNDINGS = ("nearest", "descent", "adaround", "blocks")
LEARNED = ("adaround", "blocks")
DEFAULTS = Learning()
# More images than these were not seen to help, and a walk holds their values in memory.
RECONSTRUCTION_IMAGES = 256
# As many as AdaRound, BRECQ and QDrop take.
LEARNING_IMAGES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstructed:
    """What a walk changed.

    Attributes:
        rounded: layers whose codes were looked for.
        nearest: layers whose codes are the nearest to their weights, though others were asked for.
        restored: how many layers an earlier walk had finished.
    """

    rounded: tuple[str, ...]
    nearest: tuple[str, ...]
    restored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finding:
    """What a walk found for a layer.

    Attributes:
        weight: its kernel in the Keras layout; None where it stays at the nearest codes.
        added: float64 (channels,): to what it puts out.
    """

    weight: Weight | None
    added: NDArray[np.float64]


class Kept:
    """Findings of units that are done, by layer; these are forgotten, see `jobs.kept_rounding`."""

    def known(self, names: Sequence[str]) -> Mapping[str, Finding] | None:
        """Those of all of some layers; None where one is missing."""
        return None

    def keep(self, findings: Mapping[str, Finding]) -> None:
        """Those of a unit that is done."""


def reconstruct(
    plan: Plan,
    source: keras.Model,
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    rounding: str = "nearest",
    learning: Learning = DEFAULTS,
    kept: Kept | None = None,
    on_layer: Callable[[float, str], None] = lambda done, name: None,
) -> Reconstructed:
    """Takes errors out of a quantized model, layer by layer or block by block in its order.

    Each layer reads what the layers before it give after they were changed, and is to put out what
    it does in the float model. Its codes are looked for, where that is asked for, and then its
    bias is moved by what the mean of each channel is off: the empirical correction of Nagel et al.,
    "Data-Free Quantization" (2019), appendix D, which also knows what rounding activations does.

    Args:
        model: wrapped, with scales; its kernels and biases are changed.
        images: float32 for each input, as the model takes them.
        rounding: of ROUNDINGS.
        learning: how codes are learned, of roundings that are LEARNED.
        kept: what an earlier walk came to, and where this one puts what it comes to.
        on_layer: told how many layers are done, and which one is next.
    """
    layers = layers_by_name(model)
    free = _free(plan, model) if rounding != "nearest" else set()
    walk = Walk(plan, source, model, images, together=free if rounding == "blocks" else ())
    kept = kept or Kept()
    rounded: list[str] = []
    done = restored = 0
    for unit in walk.units:

        def on_share(share: float, unit: Unit = unit, done: int = done) -> None:
            on_layer(done + share * len(unit.kernels), unit.calls[0].name)

        on_share(0.0)
        if rounding != "nearest":
            walk.grow(unit)
        findings = kept.known(unit.kernels)
        if findings is None:
            read = walk.read(unit)
            rounder = _Rounder(plan, walk, unit, rounding, learning, on_share)
            weights = rounder.round() if free.issuperset(unit.kernels) else {}
            walk.again(unit, read)
            findings = _corrected(plan, layers, walk, unit, weights)
            kept.keep(findings)
        else:
            _restore(plan, layers, walk, findings)
            restored += len(findings)
        rounded += [name for name, found in findings.items() if found.weight is not None]
        walk.leave(unit)
        if rounding in LEARNED:
            gc.collect()  # traced functions hold what they were made of in circles
        done += len(unit.kernels)
    kernels = [name for name, spec in plan.weights.items() if not spec.is_float]
    nearest = [name for name in kernels if name not in rounded] if rounding != "nearest" else []
    return Reconstructed(rounded=tuple(rounded), nearest=tuple(nearest), restored=restored)


def _free(plan: Plan, model: keras.Model) -> set[str]:
    """Operations whose codes may be looked for: of kinds, methods and bits that allow it."""
    layers, found = layers_by_name(model), set()
    for operation in rounded_sites(plan):
        layer = layers[operation.layer_name]
        weight = read_kernel(layer) if operation.kind in KINDS else None
        several = weight is not None and weight.scale is not None and weight.bits > 1
        if several and weight is not None and write_kernel(layer, weight):  # as they are
            found.add(operation.name)
    return found


def _corrected(
    plan: Plan,
    layers: Mapping[str, keras.layers.Layer],
    walk: Walk,
    unit: Unit,
    weights: Mapping[str, Weight],
) -> dict[str, Finding]:
    """Gives a unit's layers their codes, and then moves their biases, each after those before."""
    for name, weight in weights.items():
        write_kernel(layers[walk.operation(name).layer_name], weight)
    findings = {}
    for name in unit.kernels:
        site = walk.site(name)
        answer = run(site.layer, [site.read])
        added = mean_error(plan, site, answer)
        if add_bias(plan, layers, site.operation, added):
            answer += added.astype(np.float32)
        walk.answered(name, answer)
        findings[name] = Finding(weight=weights.get(name), added=added)
    return findings


def _restore(
    plan: Plan,
    layers: Mapping[str, keras.layers.Layer],
    walk: Walk,
    findings: Mapping[str, Finding],
) -> None:
    """Does what was found before."""
    for name, found in findings.items():
        operation = walk.operation(name)
        if found.weight is not None:
            write_kernel(layers[operation.layer_name], found.weight)
        add_bias(plan, layers, operation, found.added)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Kernel:
    """A kernel to round.

    Attributes:
        rows: of the float model, (groups, outputs, taps).
        shape: in the Keras layout.
        bits: of the codes.
        nearest: scales of the nearest codes, (groups, outputs, 1).
    """

    rows: NDArray[np.float64]
    shape: tuple[int, ...]
    bits: int
    nearest: NDArray[np.float64]

    @property
    def qmax(self) -> int:
        return int(2 ** (self.bits - 1) - 1)

    def weight(self, found: Rounded) -> Weight:
        steps = np.broadcast_to(found.scale, self.rows.shape)
        return Weight(
            values=as_kernel(found.codes, self.shape).astype(np.int16),
            scale=as_kernel(steps, self.shape),
            bits=self.bits,
        )


class _Rounder:
    """Looks for the codes of a unit's kernels."""

    def __init__(
        self,
        plan: Plan,
        walk: Walk,
        unit: Unit,
        rounding: str,
        learning: Learning,
        on_share: Callable[[float], None],
    ) -> None:
        self._plan, self._walk, self._unit = plan, walk, unit
        self._rounding, self._learning, self._on_share = rounding, learning, on_share

    def round(self) -> dict[str, Weight]:
        """By the names of the unit's kernels what they become."""
        if len(self._unit.kernels) > 1:
            return self._block()
        (name,) = self._unit.kernels
        site = self._walk.site(name)
        plain = self._walk.plain(self._unit) if self._learning.drop else None
        patches = draw(site, seed=self._learning.seed, plain=plain)
        kernel, found = self._descended(site, patches)
        if self._rounding in LEARNED:
            found = round_layer(
                kernel.rows,
                found,
                patches,
                behind(self._unit, site.wanted.shape[-1]),
                qmax=kernel.qmax,
                learning=self._learning,
                on_share=self._on_share,
            )
        return {name: kernel.weight(found)}

    def _block(self) -> dict[str, Weight]:
        """All kernels together, from where coordinate descent took each after those before it."""
        kernels, parts = {}, {}
        for name in self._unit.kernels:
            site = self._walk.site(name)
            patches = draw(site, seed=self._learning.seed)
            kernels[name], begin = self._descended(site, patches)
            write_kernel(site.layer, kernels[name].weight(begin))
            axes = tuple(range(site.wanted.ndim - 1))
            parts[name] = Part(
                operation=site.operation,
                rows=kernels[name].rows,
                begin=begin,
                qmax=kernels[name].qmax,
                mean=site.wanted.mean(axis=axes, dtype=np.float64).astype(np.float32),
            )
        seen = Seen(
            read=self._walk.read(self._unit),
            wanted=self._walk.wanted(self._unit),
            plain=self._walk.plain(self._unit) if self._learning.drop else None,
        )
        found = round_block(
            self._unit, parts, seen, learning=self._learning, on_share=self._on_share
        )
        return {name: kernels[name].weight(rounded) for name, rounded in found.items()}

    def _descended(self, site: Site, patches: Patches) -> tuple[_Kernel, Rounded]:
        before = read_kernel(site.layer)
        assert before is not None and before.scale is not None, site.layer.name
        floats = float_kernel(site.operation.layer)
        scale = np.broadcast_to(before.scale, floats.shape)
        kernel = _Kernel(
            rows=as_rows(floats, site),
            shape=floats.shape,
            bits=before.bits,
            nearest=as_rows(scale, site)[..., :1],
        )
        found = descend(
            kernel.rows,
            kernel.nearest,
            moments(patches),
            qmax=kernel.qmax,
            is_scale_free=self._plan.weights[site.operation.layer_name].per_channel,
        )
        return kernel, found

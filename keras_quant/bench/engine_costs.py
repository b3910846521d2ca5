"""What takes the time of an engine, in totals and in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keras_quant.bench.engine import (
    CONVERSION,
    COPY,
    FLOATS,
    KINDS,
    NO_NODE,
    NOTHING,
    PRODUCT,
    QDQ_NAME,
    REFORMAT,
    Engine,
    EngineLayer,
    parts_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What the layers of one kind come to. Attributes: time_ms, share: None without a profile."""

    kind: str
    layers: int
    time_ms: float | None
    share: float | None


def totals(engine: Engine) -> tuple[Total, ...]:
    """Sums up the layers by kind and, for products, by precision; in the order of KINDS."""
    groups: dict[tuple[int, str], list[EngineLayer]] = {}
    for layer in engine.layers:
        name = f"{PRODUCT} in {layer.precision}" if layer.kind == PRODUCT else layer.kind
        groups.setdefault((KINDS.index(layer.kind), name), []).append(layer)
    return tuple(
        Total(
            kind=name,
            layers=len(layers),
            time_ms=_sum([layer.time_ms for layer in layers]),
            share=_sum([layer.share for layer in layers]),
        )
        for (_, name), layers in sorted(groups.items())
    )


def costs(engine: Engine) -> tuple[str, ...]:
    """Says in sentences what takes the time: the three slowest layers, and what is no arithmetic.

    Without a profile they count layers.
    """
    sentences = []
    timed = [layer for layer in engine.layers if layer.time_ms is not None]
    if timed:
        slowest = sorted(timed, key=lambda layer: -(layer.time_ms or 0.0))[:3]
        parts = [f"{_called(one)} {one.share or 0:.1%}" for one in slowest]
        sentences.append(f"Most of the time takes {_listed(parts)}.")
    for kind, what in (
        (REFORMAT, "Reformats, which move values into another layout or float type,"),
        (CONVERSION, "Q/DQ that were fused with no layer"),
    ):
        layers = [layer for layer in engine.layers if layer.kind == kind]
        if layers:
            sentences.append(f"{what} are {_weight(layers)}; {_dearest(layers)}.")
    products = [layer for layer in engine.layers if layer.kind == PRODUCT]
    floats = [layer for layer in products if layer.precision in FLOATS]
    if floats and len(floats) < len(products):
        sentences.append(
            f"Products in floats, beside {len(products) - len(floats)} in codes, are "
            f"{_weight(floats)}; {_dearest(floats)}."
        )
    return tuple(sentences)


def short_name(layer: EngineLayer) -> str:
    """A layer as a table calls it: by its ONNX nodes that compute, or its own name."""
    computing = [node for node in layer.onnx_nodes if not QDQ_NAME.search(node)]
    named = computing or list(layer.onnx_nodes)
    if layer.kind in (REFORMAT, NOTHING) or not named:
        copied = COPY.sub("", layer.name)
        left = [part for part in parts_of(copied) if not NO_NODE.search(part)]
        of = [part for part in left if not QDQ_NAME.search(part)] or left or [copied]
        return f"copy for {of[0]}" if copied != layer.name else layer.name
    return named[0] if len(named) == 1 else f"{named[0]} + {len(named) - 1} more"


def _sum(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return sum(told) if told else None


def _weight(layers: Sequence[EngineLayer]) -> str:
    count = "1 layer" if len(layers) == 1 else f"{len(layers)} layers"
    share = _sum([layer.share for layer in layers])
    return count if share is None else f"{count} and {share:.1%} of the time"


def _dearest(layers: Sequence[EngineLayer]) -> str:
    one = max(layers, key=lambda layer: layer.time_ms or 0.0)
    share = "" if one.share is None else f", {one.share:.1%}"
    first = "the first is" if one.share is None else "the slowest is"
    return f"{first} {short_name(one)} ({one.precision}{share})"


def _called(layer: EngineLayer) -> str:
    return f"{short_name(layer)} ({layer.kind}, {layer.precision})"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

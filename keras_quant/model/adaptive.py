"""Which units of a model are computed where, of one whose positions halt (`zoo.halting`)."""

from __future__ import annotations

from dataclasses import dataclass

from keras_quant.model.logits import AnswerFunction
from keras_quant.tf import keras
from keras_quant.zoo import halting

_SUFFIX = "on"  # of the layers that `zoo.adaptive` gives masks, behind a unit's prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltingUnit:
    """A residual unit that changes a position only where that has not halted.

    Attributes:
        name: of the unit, as stage1_block2.
        stage: of the units that halt together, as stage1.
        mask: the layer that puts out 1 where it runs, else 0.
        inner: its convolution whose values the other reads around each position.
        at_positions: other convolutions, which are needed at those positions alone.
    """

    name: str
    stage: str
    mask: str
    inner: str
    at_positions: tuple[str, ...]


def halting_units(model: keras.Model) -> tuple[HaltingUnit, ...]:
    """Finds the units of a model that positions may halt in front of, in order; () if none."""
    names = {layer.name for layer in model.layers}
    found = []
    for layer in model.layers:
        if getattr(layer, "activation", None) is not halting.is_on:
            continue
        prefix = layer.name.removesuffix(_SUFFIX)
        others = [f"{prefix}{name}" for name in ("conv2", "score_conv")]
        found.append(
            HaltingUnit(
                name=prefix.rstrip("_"),
                stage=prefix.partition("_")[0],
                mask=layer.name,
                inner=f"{prefix}conv1",
                at_positions=tuple(name for name in others if name in names),
            )
        )
    return tuple(found)


def with_masks(model: keras.Model, units: tuple[HaltingUnit, ...]) -> AnswerFunction:
    """A model that puts out its own answers, and behind them the mask of each unit.

    Masks are float32 (images, height, width, 1), of 0 and 1.
    """
    masks = [model.get_layer(unit.mask).output for unit in units]
    return AnswerFunction(keras.Model(model.inputs, [*model.outputs, *masks]))

"""What a model's outputs are called."""

from __future__ import annotations

import re

from keras_quant.tf import keras


def output_names(model: keras.Model) -> tuple[str, ...]:
    """The names of a functional model's outputs, in order, of which no two are equal.

    Each is that of its layer; of an output that is rounded, as a decoder reads it too, that of the
    layer which is rounded (`prepare.wrap` calls the one behind `mean` `mean_quant`). So a model and
    what was quantized of it have the same names. Of two that would be called the same, the
    later one is NAME/output_N, as in `graph.passes.outputs`.
    """
    names = [
        _rounded(tensor, name)
        for tensor, name in zip(model.outputs, model.output_names, strict=True)
    ]
    return tuple(
        name if name not in names[:place] else f"{name}/output_{place}"
        for place, name in enumerate(names)
    )


def _rounded(tensor: keras.KerasTensor, name: str) -> str:
    """The name of the layer that is rounded; the output's own where none is."""
    read = tensor.node.keras_inputs
    before: str | None = read[0].node.layer.name if len(read) == 1 else None
    if before is not None and re.fullmatch(re.escape(before) + r"_quant(_\d+)?", name):
        return before
    return name

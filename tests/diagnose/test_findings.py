"""What is said of layers, made by hand."""

from __future__ import annotations

import pytest

from keras_quant.diagnose.contents import (
    FLOAT,
    INTEGER,
    FileContents,
    OperatorContents,
    TensorContents,
)
from keras_quant.diagnose.findings import RANGE, Layer, find, heals
from keras_quant.diagnose.measures import CodesSeen

FEW = CodesSeen(used=0.06, at_ends=0.0, outliers=1.0, dead=0, channels=1, least=0.0, most=1.0)


def found_of(*, pooled_scale: float) -> list[tuple[str, str]]:
    """Of a ReLU with few codes, and a pooling behind it that puts out the given scale."""
    relu = TensorContents(name="relu", dtype="int8", scale=0.5, low=-128, high=127)
    pool = TensorContents(name="pool", dtype="int8", scale=pooled_scale, low=-128, high=127)
    operators = tuple(
        OperatorContents(op=op, computes=INTEGER, library="", inputs=(read,), output=output)
        for op, read, output in (("RELU", "x", "relu"), ("MAX_POOL_2D", "relu", "pool"))
    )
    contents = FileContents(
        runtime="",
        channels_first=False,
        tensors={"relu": relu, "pool": pool},
        operators=operators,
        inputs=("x",),
        outputs=("pool",),
    )
    layers = [
        Layer(name=one.output, tensor="", matched=None, operator=one, dtype="int8", codes=FEW)
        for one in operators
    ]
    return [(finding.layer, finding.kind) for finding in find(layers, contents)]


def test_few_codes_are_told_where_their_grid_was_chosen() -> None:
    assert found_of(pooled_scale=0.5) == [("relu", RANGE)]
    assert found_of(pooled_scale=0.25) == [("relu", RANGE), ("pool", RANGE)]


@pytest.mark.parametrize(
    ("layers", "last_db", "is_step"),
    [
        (("mean", "mean", "mean"), 40.0, True),  # codes become reals by a Cast, a Sub and a Mul
        (("mean", "mean", "mean"), 10.0, False),
        (("mean", "hidden", "hidden"), 40.0, False),  # another layer begins with what is broken
    ],
)
def test_steps_on_the_way_to_a_layers_values_heal(
    layers: tuple[str, ...], last_db: float, is_step: bool
) -> None:
    names = ("cast", "sub", "mul")
    operators = tuple(
        OperatorContents(op=name, computes=FLOAT, library="", inputs=(read,), output=name)
        for read, name in zip(("codes", *names), names, strict=False)
    )
    contents = FileContents(
        runtime="",
        channels_first=True,
        tensors={name: TensorContents(name=name, dtype="float32") for name in names},
        operators=operators,
        inputs=("codes",),
        outputs=("mul",),
    )
    sqnr_db = dict(zip(names, (-52.0, -41.0, last_db), strict=True))
    assert heals("cast", contents, sqnr_db, dict(zip(names, layers, strict=True))) == is_step

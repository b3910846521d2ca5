from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.jobs.remedies import default_rounding  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers


def net(inputs: int = 1) -> keras.Model:
    given = [keras.Input((4,)) for _ in range(inputs)]
    x = L.Concatenate()(given) if inputs > 1 else given[0]
    return keras.Model(given, L.Dense(2)(L.Dense(3, activation="relu")(x)))


@pytest.mark.parametrize(
    ("bits", "rounding"),
    [
        ("w8a8", "nearest"),
        ("w8a4", "nearest"),
        ("wfa8", "nearest"),
        ("w7a8", "descent"),
        ("w2a8", "descent"),
        ("w1a8", "nearest"),
    ],
)
def test_rounding_is_by_descent_where_kernels_have_few_bits_but_more_than_one(
    bits: str, rounding: str
) -> None:
    planned = plan(net(), scheme_from_bits(bits, ends="same"))
    assert default_rounding(planned, has_images=True) == rounding


def test_rounding_is_the_nearest_where_descent_has_no_images_or_several_inputs() -> None:
    scheme = scheme_from_bits("w4a8", ends="same")
    assert default_rounding(plan(net(), scheme), has_images=False) == "nearest"
    assert default_rounding(plan(net(inputs=2), scheme), has_images=True) == "nearest"

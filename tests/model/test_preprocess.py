from __future__ import annotations

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.layers import InputGrid  # noqa: E402
from keras_quant.model.preprocess import find_preprocessing, input_range  # noqa: E402
from keras_quant.pixels import pixel_grid  # noqa: E402
from keras_quant.preprocessing import PREPROCESSINGS  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
SHAPE = (8, 8, 3)
IMAGENET_MEAN, IMAGENET_VARIANCE = [0.485, 0.456, 0.406], [0.229**2, 0.224**2, 0.225**2]


def net(*layers: keras.layers.Layer, shape: tuple[int | None, ...] = SHAPE) -> keras.Model:
    x = inputs = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, L.Conv2D(2, 3)(x))


def pixels_of(values: list[float], power: int = 1) -> list[float]:
    return [255**power * value for value in values]


@pytest.mark.parametrize(
    "layers",
    [
        [L.Rescaling(1 / 255)],
        [L.Rescaling(1 / 127.5, offset=-1)],
        [L.Rescaling(1 / 128, offset=-1)],
        [L.Rescaling(1.0, offset=-127.5)],
        [L.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0] * 3)],
        [L.Normalization(mean=pixels_of(IMAGENET_MEAN), variance=pixels_of(IMAGENET_VARIANCE, 2))],
        [L.Rescaling(1 / 255), L.Normalization(mean=IMAGENET_MEAN, variance=IMAGENET_VARIANCE)],
        [L.RandomFlip(), L.Resizing(16, 16), L.Rescaling(1 / 255)],
        [L.ZeroPadding2D(1), L.Rescaling([1 / 255, 1 / 254, 1 / 253])],
    ],
)
def test_layers_that_scale_pixels_down_take_raw_ones(layers: list[keras.layers.Layer]) -> None:
    model = net(*layers)
    found = find_preprocessing(model, SHAPE)
    first = next(la for la in layers if type(la).__name__ in ("Rescaling", "Normalization"))
    assert found is not None and found.preprocessing.name == "raw"
    assert (found.layer, found.cls) == (first.name, type(first).__name__)


@pytest.mark.parametrize(
    "layers",
    [
        [L.Rescaling(255.0)],
        [L.Rescaling(255.0, offset=-127.5)],
        [L.Rescaling(2.0, offset=-1.0)],
        [L.Normalization(mean=IMAGENET_MEAN, variance=IMAGENET_VARIANCE)],
        [L.Rescaling(255.0), L.Normalization(mean=[110.0] * 3, variance=[1.0] * 3)],
    ],
)
def test_layers_that_spread_reals_of_0_to_1_take_these(layers: list[keras.layers.Layer]) -> None:
    found = find_preprocessing(net(*layers), SHAPE)
    assert found is not None and found.preprocessing.name == "unit"


def test_images_of_any_size_and_models_inside_models_are_seen_through() -> None:
    inner = keras.Sequential([keras.Input((None, None, 3)), L.Rescaling(1 / 255)])
    found = find_preprocessing(net(inner, shape=(None, None, 3)), SHAPE)
    assert found is not None and found.preprocessing.name == "raw"


def test_other_first_layers_say_nothing() -> None:
    assert find_preprocessing(net(), SHAPE) is None
    assert find_preprocessing(net(L.BatchNormalization(), L.Rescaling(1 / 255)), SHAPE) is None
    x = inputs = keras.Input((8, 8, 3))
    two = keras.Model(inputs, L.Add()([L.Rescaling(1 / 255)(x), x]))
    assert find_preprocessing(two, SHAPE) is None


def test_a_model_that_cannot_be_followed_says_nothing() -> None:
    class Subclassed(keras.Model):
        pass

    assert find_preprocessing(Subclassed(), SHAPE) is None


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_our_grid_tells_what_it_was_made_for(name: str) -> None:
    grid = pixel_grid(PREPROCESSINGS[name], 3)
    model = net(InputGrid(grid.scale, grid.qmin, grid.qmax))
    found = find_preprocessing(model, SHAPE)
    assert found is not None and found.preprocessing == PREPROCESSINGS[name]
    assert input_range(model, SHAPE) == (grid.scale * grid.qmin, grid.scale * grid.qmax)


def test_a_grid_of_no_pixels_tells_its_range_alone() -> None:
    model = net(InputGrid(0.5, -8, 7))
    assert find_preprocessing(model, SHAPE) is None and input_range(model, SHAPE) == (-4.0, 3.5)
    assert input_range(net(L.Rescaling(1 / 255)), SHAPE) is None

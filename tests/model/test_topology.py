"""What a model's calls are, whatever lies inside what."""

from __future__ import annotations

import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.topology import free_name, layers_by_name, list_calls  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

L = keras.layers


def test_layers_keep_their_names_unless_another_has_it() -> None:
    first = keras.Sequential([L.ReLU(name="relu"), L.Dense(2, name="only")], name="first")
    deep = keras.Sequential([L.ReLU(name="relu"), first], name="deep")
    inputs = keras.Input((3,), name="image")
    model = keras.Model(inputs, L.ReLU(name="relu")(deep(inputs)))
    names = layers_by_name(model)
    assert list(names) == ["image", "relu", "deep_relu", "deep_first_relu", "only"]
    assert names["deep_relu"] is deep.layers[0]
    assert names["deep_first_relu"] is first.layers[0]


def test_a_layer_shared_by_two_models_is_one() -> None:
    shared = L.Dense(3, name="shared")
    inputs = keras.Input((3,), name="image")
    a, b = (keras.Sequential([shared], name=name) for name in "ab")
    model = keras.Model(inputs, b(a(inputs)))
    assert list(layers_by_name(model)) == ["image", "shared"]
    assert [call.name for call in list_calls(model)] == ["image", "shared", "shared_call2"]


def test_call_names_avoid_those_of_layers() -> None:
    shared = L.Dense(3, name="d")
    inputs = keras.Input((3,), name="image")
    model = keras.Model(inputs, L.Dense(3, name="d_call2")(shared(shared(inputs))))
    assert [call.name for call in list_calls(model)] == ["image", "d", "d_call2_2", "d_call2"]


def test_shapes_are_those_of_each_call() -> None:
    """The model inside is made for images of any size."""
    inner = keras.Sequential([L.Conv2D(2, 3, name="conv"), L.UpSampling2D()], name="inner")
    a, b = keras.Input((6, 6, 1), name="a"), keras.Input((8, 5, 1), name="b")
    shapes = {c.name: c.shape for c in list_calls(keras.Model([a, b], [inner(a), inner(b)]))}
    assert set(shapes.values()) == {
        (6, 6, 1),
        (8, 5, 1),
        (4, 4, 2),
        (6, 3, 2),
        (8, 8, 2),
        (12, 6, 2),
    }
    assert {len(shape) for shape in shapes.values()} == {3}


def test_several_outputs_of_a_model_inside_are_told_apart() -> None:
    x = keras.Input((4,))
    inner = keras.Model(x, [L.Dense(2, name="two")(x), L.Dense(3, name="three")(x)], name="inner")
    inputs = keras.Input((4,), name="image")
    two, three = inner(inputs)
    calls = list_calls(keras.Model(inputs, [L.ReLU(name="r")(three), two]))
    places = {call.name: (call.inputs, call.outputs) for call in calls}
    assert places["r"] == (("three",), (0,))
    assert places["two"] == (("image",), (1,))


def test_a_subclassed_model_inside_is_told_by_name() -> None:
    class Own(keras.Model):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return inputs

    inputs = keras.Input((4,))
    with pytest.raises(LoweringError, match="model own is a subclassed model: .*functional API"):
        list_calls(keras.Model(inputs, Own(name="own")(inputs)))


def test_a_name_that_is_taken_gets_a_number() -> None:
    assert [free_name("a", taken) for taken in ((), ("a",), ("a", "a_2"))] == ["a", "a_2", "a_3"]

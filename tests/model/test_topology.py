"""What a model's calls are, whatever lies inside what."""

from __future__ import annotations

from typing import Any

import numpy as np
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


@pytest.mark.filterwarnings("ignore:Input dict contained keys")
@pytest.mark.parametrize("given", [("a", "b"), ("a", "b", "more")])
def test_values_given_to_a_model_by_name_go_to_its_inputs_of_that_name(
    given: tuple[str, ...],
) -> None:
    """The model inside has its inputs in another order than their names."""
    b, a = keras.Input((4,), name="b"), keras.Input((4,), name="a")
    inner = keras.Model([b, a], [L.ReLU(name="of_b")(b), L.ReLU(name="of_a")(a)])
    inputs = {name: keras.Input((4,), name=f"outer_{name}") for name in given}
    calls = list_calls(keras.Model(list(inputs.values()), inner(inputs)))
    read = {call.name: call.inputs for call in calls if call.inputs}
    assert read == {"of_b": ("outer_b",), "of_a": ("outer_a",)}


@pytest.mark.parametrize(
    ("layer", "more", "why"),
    [
        (L.BatchNormalization(name="l"), {"training": True}, "training=True.*call it without"),
        (L.Dropout(0.5, name="l"), {"training": 1}, "training=1, and would compute in inference"),
        (keras.Sequential([L.Dropout(0.5)], name="l"), {"training": True}, "training=True"),
        (L.Softmax(name="l"), {"mask": np.ones((1, 4))}, "a mask.*call it without"),
        (L.BatchNormalization(name="l"), {"training": False}, ""),
        (L.Dropout(0.5, name="l"), {"training": None}, ""),
    ],
)
def test_a_call_with_more_than_its_inputs_is_told(layer: L.Layer, more: dict, why: str) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs, **more))
    if not why:
        assert len(list_calls(model)) == 2
        return
    with pytest.raises(LoweringError, match=f"layer l is called with .*{why}"):
        list_calls(model)


def test_an_argument_without_its_name_counts_too() -> None:
    inputs = keras.Input((4,))
    with pytest.raises(LoweringError, match="layer drop is called with training=True"):
        list_calls(keras.Model(inputs, L.Dropout(0.5, name="drop")(inputs, True)))


@pytest.mark.parametrize("layer", ["Add", "Multiply", "Subtract", "Maximum", "Concatenate"])
def test_a_constant_beside_the_models_values_is_told(layer: str) -> None:
    inputs = keras.Input((4,))
    x = getattr(L, layer)(name="l")([inputs, tf.ones((1, 4))])
    with pytest.raises(LoweringError, match="layer l is called on a constant.*a Rescaling"):
        list_calls(keras.Model(inputs, x))


def test_a_functional_model_that_calls_more_than_its_layers_is_told() -> None:
    class Twice(keras.Model):
        def call(self, inputs: tf.Tensor, training: bool | None = None, mask: None = None) -> Any:
            return 2 * super().call(inputs, training=training, mask=mask)

    class Trained(keras.Model):
        def train_step(self, data: Any) -> dict[str, Any]:
            return {}

    inputs = keras.Input((4,))
    x = L.Dense(2)(inputs)
    assert len(list_calls(Trained(inputs, x))) == 2
    with pytest.raises(LoweringError, match="model own is a Twice, whose own `call` cannot be"):
        list_calls(Twice(inputs, x, name="own"))


def test_a_class_with_the_name_of_a_layer_of_keras_is_told() -> None:
    class Identity(L.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return 2 * inputs

    inputs = keras.Input((4,))
    with pytest.raises(LoweringError, match=r"layer l is a Identity of .*give the class another"):
        list_calls(keras.Model(inputs, Identity(name="l")(inputs)))

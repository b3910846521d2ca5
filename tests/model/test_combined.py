"""Layers of several inputs: the calls that stand for one compute what it computes."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import LoweringError

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.model.combined import COMBINED, split_combined  # noqa: E402
from keras_quant.model.operations import Operation, describe  # noqa: E402
from keras_quant.model.topology import Call, list_calls  # noqa: E402
from keras_quant.tf import keras  # noqa: E402

L = keras.layers
FLOAT32_ROUNDING = 1e-6
IMAGE = (4, 3, 2)


def net(layer: L.Layer, *shapes: tuple[int | None, ...]) -> keras.Model:
    inputs = [keras.Input(shape, name=f"in{n}") for n, shape in enumerate(shapes)]
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else [inputs[0]]))


def steps_of(model: keras.Model) -> list[Operation]:
    return list(describe(model))


def computed(calls: list[Call], given: list[np.ndarray]) -> np.ndarray:
    values = dict(zip([call.name for call in calls], given, strict=False))
    for call in calls[len(given) :]:
        read = [values[name] for name in call.inputs]
        values[call.name] = call.layer(read if len(read) > 1 else read[0])
    return np.asarray(values[calls[-1].name])


@pytest.mark.thinned(3)
@pytest.mark.parametrize("kind", COMBINED)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", [IMAGE, (5,), (4, 3)], ids=str)
def test_parts_compute_what_the_layer_computes(kind: str, count: int, shape) -> None:
    if kind == "Subtract" and count != 2:
        pytest.skip("Keras subtracts one from another")
    model = net(getattr(L, kind)(name="both"), *[shape] * count)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(2, *shape)).astype(np.float32) for _ in range(count)]
    calls = split_combined(list_calls(model))
    assert calls[-1].name == "both"
    assert len({call.name for call in calls}) == len(calls)
    np.testing.assert_allclose(computed(calls, given), model(given), rtol=0, atol=FLOAT32_ROUNDING)


@pytest.mark.parametrize("kind", ["Add", "Multiply"])
def test_sums_and_products_of_two_stay_as_they_are(kind: str) -> None:
    calls = list_calls(net(getattr(L, kind)(), IMAGE, IMAGE))
    assert split_combined(calls) == calls


def test_parts_belong_to_their_layer_and_only_the_last_is_the_output() -> None:
    operations = steps_of(net(L.Average(name="both"), IMAGE, IMAGE))
    assert {operation.owner for operation in operations[2:]} == {"both"}
    assert [operation.name for operation in operations if operation.outputs] == ["both"]
    assert [operation.kind for operation in operations[2:]] == ["reshape"] * 2 + [
        "concat",
        "avg_pool",
        "reshape",
    ]


def test_the_calls_of_one_layer_have_parts_of_their_own() -> None:
    add = L.Add(name="add")
    a, b = keras.Input((4, 4, 2)), keras.Input((2, 2, 2))
    operations = steps_of(keras.Model([a, b], [add([a, a, a]), add([b, b, b])]))
    parts = {
        operation.name: (operation.layer_name, operation.shape[0]) for operation in operations[2:]
    }
    assert list(parts) == ["add_of2", "add", "add_call2_of2", "add_call2"]
    assert all(layer_name == name for name, (layer_name, _) in parts.items())
    heights = [height for _, height in parts.values()]
    assert heights in ([4, 4, 2, 2], [2, 2, 4, 4])  # Keras lists either first


def test_sums_of_three_take_any_shapes_that_broadcast() -> None:
    operations = steps_of(net(L.Add(name="add"), IMAGE, (2,), (1, 1, 2)))
    assert [operation.shape for operation in operations if operation.kind == "add"] == [
        IMAGE,
        IMAGE,
    ]


def test_poolings_need_inputs_of_one_shape() -> None:
    with pytest.raises(LoweringError, match=r"both \(Maximum: inputs of one shape, without None"):
        describe(net(L.Maximum(name="both"), IMAGE, (1, 1, 2)))


@pytest.mark.parametrize(
    ("join", "kind"), [(lambda a, b: a + b, "add"), (lambda a, b: a * b, "multiply")]
)
def test_operators_between_tensors_are_layers(join, kind: str) -> None:
    a, b = keras.Input((5,)), keras.Input((5,))
    assert steps_of(keras.Model([a, b], join(a, b)))[-1].kind == kind


def test_operators_with_numbers_are_not_supported() -> None:
    a = keras.Input((5,))
    with pytest.raises(LoweringError, match="TFOpLambda: not supported"):
        describe(keras.Model(a, a + 1.0))

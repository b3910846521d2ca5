from __future__ import annotations

from typing import Any

import pytest

from keras_quant.model.keras3_operations import as_layer

SHAPE = [None, 4, 4, 3]


def tensor(name: str, shape: list[int | None] | None = None) -> dict[str, Any]:
    config = {"shape": shape or SHAPE, "dtype": "float32", "keras_history": [name, 0, 0]}
    return {"class_name": "__keras_tensor__", "config": config}


X, Y = tensor("x"), tensor("y")


def operation(kind: str, *args: Any, calls: int = 1, **config: Any) -> dict[str, Any]:
    """As Keras 3.15 writes it."""
    return {
        "module": "keras.src.ops.numpy",
        "class_name": kind,
        "config": {"name": "op", **config},
        "registered_name": kind,
        "name": "op",
        "inbound_nodes": [{"args": list(args), "kwargs": {}}] * calls,
    }


@pytest.mark.parametrize(
    ("kind", "args", "scale", "offset"),
    [
        ("Add", (X, 2), 1.0, 2.0),
        ("Add", (2, X), 1.0, 2.0),
        ("Subtract", (X, 0.5), 1.0, -0.5),
        ("Subtract", (0.5, X), -1.0, 0.5),
        ("Multiply", (X, 3.0), 3.0, 0.0),
        ("Multiply", (-3, X), -3.0, 0.0),
        ("TrueDivide", (X, 255.0), 1 / 255, 0.0),
        ("Divide", (X, 4), 0.25, 0.0),
        ("Negative", (X,), -1.0, 0.0),
    ],
)
def test_a_number_beside_a_value_makes_a_rescaling(
    kind: str, args: tuple[Any, ...], scale: float, offset: float
) -> None:
    found = as_layer(operation(kind, *args))
    assert (found["module"], found["class_name"]) == ("keras.layers", "Rescaling")
    assert found["config"] == {"name": "op", "scale": scale, "offset": offset}
    assert found["inbound_nodes"] == [{"args": [X], "kwargs": {}}]
    assert found["registered_name"] is None


@pytest.mark.parametrize("kind", ["Add", "Subtract", "Multiply", "Maximum", "Minimum"])
def test_two_values_are_read_by_the_layer_of_that_name(kind: str) -> None:
    found = as_layer(operation(kind, X, Y))
    assert (found["module"], found["class_name"]) == ("keras.layers", kind)
    assert found["config"] == {"name": "op"}
    assert found["inbound_nodes"] == [{"args": [X, Y], "kwargs": {}}]


def test_a_function_is_an_activation() -> None:
    found = as_layer(operation("Silu", X))
    assert (found["class_name"], found["config"]) == (
        "Activation",
        {"name": "op", "activation": "swish"},
    )


def test_a_concatenation_keeps_its_axis() -> None:
    found = as_layer(operation("Concatenate", [X, Y], axis=2))
    assert found["module"] == "keras.layers" and found["config"] == {"name": "op", "axis": 2}


def test_layers_stay_as_they_are() -> None:
    for kind, args in (("Conv2D", (X,)), ("ReLU", (X,)), ("Mean", (X,))):
        saved = operation(kind, *args)
        assert as_layer(saved) is saved


def test_a_layer_that_adds_keeps_its_settings() -> None:
    found = as_layer(operation("Add", [X, Y], trainable=True))
    assert (found["class_name"], found["config"]) == ("Add", {"name": "op", "trainable": True})


@pytest.mark.parametrize(
    "given",
    [
        operation("TrueDivide", 1, X),
        operation("TrueDivide", X, Y),
        operation("TrueDivide", X, 0),
        operation("Multiply", X, float("nan")),
        operation("Add", X, True),
        operation("Maximum", X, 0.0),
        operation("Add", X, {"class_name": "__numpy__", "config": {"value": [1.0]}}),
    ],
    ids=["reciprocal", "quotient", "zero", "nan", "bool", "bound", "array"],
)
def test_what_is_no_layer_is_refused_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"operation op \(\w+\) is none that is read: sums, diff"):
        as_layer(given)


def test_values_of_unlike_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"op \(Add\) is of values of 2 and 4 axes; give them as"):
        as_layer(operation("Add", X, tensor("y", [None, 3])))


def test_an_operation_that_is_called_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"operation op \(Add\) is called 2 times; once is read"):
        as_layer(operation("Add", X, Y, calls=2))

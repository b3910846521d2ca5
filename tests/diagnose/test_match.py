"""Which tensors are which layers."""

from __future__ import annotations

import numpy as np

from keras_quant.diagnose.contents import (
    CONVERSION,
    INTEGER,
    FileContents,
    OperatorContents,
    TensorContents,
)
from keras_quant.diagnose.match import FloatLayer, Match, match, nearest

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.normal(size=(4, *shape)).astype(np.float32)


def contents(*operators: tuple[str, str, str], channels_first: bool = False) -> FileContents:
    """A file of operators (what it reads, its key, its name)."""
    return FileContents(
        runtime="none",
        channels_first=channels_first,
        tensors={
            key: TensorContents(name=name, dtype="float32")
            for key, name in [("in", "in"), *((key, name) for _, key, name in operators)]
        },
        operators=tuple(
            OperatorContents(
                op="CONV_2D", computes=INTEGER, library="none", inputs=(read,), output=key
            )
            for read, key, _ in operators
        ),
        inputs=("in",),
        outputs=(operators[-1][1],),
    )


def chain(*names: str) -> list[FloatLayer]:
    return [
        FloatLayer(name=name, kind="Conv2D", inputs=names[place - 1 : place])
        for place, name in enumerate(names)
    ]


def layers_of(found: dict[str, Match]) -> dict[str, tuple[str, str]]:
    return {key: (one.layer, one.by) for key, one in found.items()}


def test_a_name_of_several_paths_is_the_layer_that_ends_them() -> None:
    x, conv = values(5, 5, 3), values(5, 5, 3)
    relu = np.maximum(conv, 0)
    name = "net/relu1/Relu;net/conv1/BiasAdd;net/conv1/Conv2D"
    found = match(
        contents(("in", "a", name)),
        chain("in", "conv1", "relu1"),
        {"in": x, "conv1": conv, "relu1": relu},
        {"a": relu + 0.1},
    )
    assert layers_of(found) == {"a": ("relu1", "name")}


def test_a_layer_that_is_broken_keeps_its_name() -> None:
    x, conv = values(5, 5, 3), values(5, 5, 3)
    name = "net/relu1/Relu;net/conv1/Conv2D"
    found = match(
        contents(("in", "a", name)),
        chain("in", "conv1", "relu1"),
        {"in": x, "conv1": conv, "relu1": np.maximum(conv, 0)},
        {"a": values(5, 5, 3)},  # it has nothing to do with what it should be
    )
    assert layers_of(found) == {"a": ("relu1", "name")}


def test_names_of_constants_that_layers_share_say_nothing() -> None:
    x, one, two = values(5, 5, 3), values(5, 5, 3), values(5, 5, 3)
    name = "net/conv1/BiasAdd;net/conv2/BiasAdd/ReadVariableOp"
    found = match(
        contents(("in", "a", name)),
        chain("in", "conv1", "conv2"),
        {"in": x, "conv1": one, "conv2": two},
        {"a": one + two},  # as like the one as the other
    )
    assert layers_of(found) == {"a": ("conv1", "name")}


def test_tensors_without_names_are_found_by_values_behind_what_they_read() -> None:
    x, one, two = values(5, 5, 3), values(5, 5, 3), values(5, 5, 4)
    found = match(
        contents(("in", "a", "7"), ("a", "b", "8"), ("b", "c", "9")),
        chain("in", "conv1", "conv2", "conv3"),
        {"in": x, "conv1": one, "conv2": two, "conv3": one + values(5, 5, 3) / 4},
        {"a": one, "b": two, "c": one},  # conv1 is more like it, and lies in front of b
    )
    assert layers_of(found) == {
        "a": ("conv1", "values"),
        "b": ("conv2", "values"),
        "c": ("conv3", "values"),
    }


def test_what_is_read_by_a_named_layer_lies_in_front_of_it() -> None:
    one, two = values(5, 5, 3), values(5, 5, 4)
    found = match(
        contents(("in", "a", "7"), ("a", "b", "net/conv2/Conv2D")),
        chain("in", "conv1", "conv2", "conv3"),
        {"in": values(5, 5, 3), "conv1": one + values(5, 5, 3) / 4, "conv2": two, "conv3": one},
        {"a": one, "b": two},  # conv3 is more like it, and lies behind conv2
    )
    assert layers_of(found) == {"a": ("conv1", "values"), "b": ("conv2", "name")}


def test_channels_in_front_are_the_same_layer() -> None:
    x, one = values(5, 4, 3), values(5, 4, 2)
    found = match(
        contents(("in", "a", "7"), channels_first=True),
        chain("in", "conv1"),
        {"in": x, "conv1": one},
        {"a": np.moveaxis(one, -1, 1)},
    )
    assert layers_of(found) == {"a": ("conv1", "values")}


def test_what_is_like_no_layer_is_left_out() -> None:
    found = match(
        contents(("in", "a", "7"), ("a", "b", "8")),
        chain("in", "conv1"),
        {"in": values(5, 5, 3), "conv1": values(5, 5, 3)},
        {"a": values(5, 5, 3), "b": values(2, 2)},
    )
    assert found == {}


def test_outputs_are_each_others_whatever_their_names_and_values() -> None:
    found = match(
        contents(("in", "a", "StatefulPartitionedCall:0")),
        chain("in", "logits"),
        {"in": values(5), "logits": values(3)},
        {"a": values(3)},
        outputs=["logits"],
    )
    assert layers_of(found) == {"a": ("logits", "output")}


def test_a_conversion_is_the_layer_that_it_converts() -> None:
    one = values(3)
    file = contents(("in", "a", "logits"), ("a", "b", "8"))
    converts = OperatorContents(
        op="DEQUANTIZE", computes=CONVERSION, library="none", inputs=("a",), output="b"
    )
    file = FileContents(
        runtime="none",
        channels_first=False,
        tensors=file.tensors,
        operators=(file.operators[0], converts),
        inputs=("in",),
        outputs=("b",),
    )
    found = match(
        file, chain("in", "logits"), {"in": values(5), "logits": one}, {"a": one, "b": one}
    )
    assert layers_of(found) == {"a": ("logits", "name"), "b": ("logits", "name")}


def test_a_step_within_a_layer_is_not_the_layer() -> None:
    product = values(3)
    logits = product + np.array([0, 1, 2], np.float32)
    found = match(
        contents(("in", "a", "logits/product"), ("a", "b", "logits")),
        chain("in", "logits"),
        {"in": values(5), "logits": logits},
        {"a": product, "b": logits},
    )
    assert layers_of(found) == {"b": ("logits", "name")}


def test_nearest_goes_through_what_is_not_known() -> None:
    reads = {"d": ("c", "b"), "c": ("a",), "b": ("a",)}
    assert set(nearest("d", reads, {"b": 1, "a": 1})) == {"b", "a"}
    assert nearest("d", reads, {}) == ()

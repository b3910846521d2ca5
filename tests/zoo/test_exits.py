"""Exits hang where they are asked for, in the order of depth, and change nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.zoo import build

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.prepare import plan  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo.exits import add_exits, possible_exits  # noqa: E402


def lenet() -> keras.Model:
    return build("lenet5", (12, 12, 1), 10)


def test_exits_answer_in_the_order_of_their_depth() -> None:
    model = add_exits(lenet(), ["relu3", "pool1", "relu2"])
    assert model.output_names == ["exit1_logits", "exit2_logits", "exit3_logits", "logits"]
    reads = [model.get_layer(f"exit{n}_{first}") for n, first in ((1, "conv"), (2, "conv"))]
    reads.append(model.get_layer("exit3_logits"))
    names = [layer.inbound_nodes[0].inbound_layers.name for layer in reads]
    assert names == ["pool1", "relu2", "relu3"]


def test_the_last_answer_is_that_of_the_model_without_exits() -> None:
    model, x = lenet(), np.random.default_rng(0).random((3, 12, 12, 1), np.float32)
    alone = model(x).numpy()
    np.testing.assert_array_equal(add_exits(model, ["pool1"])(x)[-1].numpy(), alone)


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn", "mlp", "mobilenet_v2"])
def test_exits_hang_on_each_layer_that_is_said_to_be_possible(name: str) -> None:
    model = build(name, (16, 16, 3), 10)
    places = possible_exits(model)
    assert places
    with_exits = add_exits(model, places[:: max(1, len(places) // 4)])
    assert all(output.shape[1:] == (10,) for output in with_exits.outputs)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pol1"], "has no layer 'pol1'; close names: pool1.*possible at: relu1, pool1, relu2"),
        (["conv1"], "conv1 is a Conv2D: an exit reads what is rounded to codes anyhow"),
        (["image"], "image is a InputLayer"),
        (["pool1", "pool1"], "pool1 is named twice"),
        (["pool9", "dense3"], "no layer 'pool9'.*dense3 is a Dense"),
    ],
)
def test_where_no_exit_can_be_is_told_with_where_one_can(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        add_exits(lenet(), names)


def test_a_model_with_exits_takes_no_more() -> None:
    with pytest.raises(UsageError, match="b_lenet has 2 already: exit1_logits, logits"):
        add_exits(build("b_lenet", (12, 12, 1), 10), ["pool2"])


def test_the_last_layer_of_a_scheme_is_the_last_answers() -> None:
    weights = plan(add_exits(lenet(), ["pool1"]), scheme_from_bits("4", ends="8")).weights
    wide = [name for name, spec in weights.items() if spec.bits == 8]
    assert wide == ["conv1", "logits"]


def test_a_lenet_without_exits_is_the_same_net() -> None:
    static, early = (build("b_lenet", (28, 28, 1), 10, exits=n) for n in (0, 1))
    assert static.output_names == ["logits"]
    added = {layer.name for layer in early.layers} - {layer.name for layer in static.layers}
    assert {name.partition("_")[0] for name in added} == {"exit1"}

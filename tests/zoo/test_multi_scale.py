from __future__ import annotations

import math

import pytest

from keras_quant.zoo import build

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.tf import keras  # noqa: E402

WIDENING = BOTTLENECK = (1, 2, 4, 4)


def published_parameters(
    *, blocks: int, base: int, step: int, channels: int, growth: int, scales: int, classes: int
) -> int:
    """Trainable parameters of the authors' net, counted as their code builds it.

    kalviny/MSDNet-PyTorch, models/msdnet.py, with prune "max" and stepmode "even", of RGB images;
    convolutions without biases, each with a batch norm. All scales of all layers are there.
    """

    def conv_bn(inputs: int, outputs: int, size: int) -> int:
        return size * size * inputs * outputs + 2 * outputs

    def bottleneck(inputs: int, outputs: int, width: int) -> int:
        squeezed = min(inputs, width * outputs)
        return conv_bn(inputs, squeezed, 1) + conv_bn(squeezed, outputs, 3)

    def exit_at(width: int) -> int:
        return conv_bn(width, 128, 3) + conv_bn(128, 128, 3) + 129 * classes

    steps = [base] + [step] * (blocks - 1)
    interval = math.ceil(sum(steps) / scales)
    total, count, width, given = 0, 0, channels, 3
    for scale in range(scales):
        total += conv_bn(given, channels * WIDENING[scale], 3)
        given = channels * WIDENING[scale]
    for layers in steps:
        for _ in range(layers):
            count += 1
            first = math.floor((count - 1) / interval)
            drops = first > math.floor(max(0, count - 2) / interval)
            for scale in range(first, scales):
                added = growth * WIDENING[scale]
                if scale == first and not drops:
                    total += bottleneck(width * WIDENING[scale], added, BOTTLENECK[scale])
                else:
                    own, finer = width * WIDENING[scale], width * WIDENING[scale - 1]
                    total += bottleneck(finer, added // 2, BOTTLENECK[scale - 1])
                    total += bottleneck(own, added // 2, BOTTLENECK[scale])
            width += growth
            if drops:
                halved = math.floor(width / 2)
                for scale in range(first, scales):
                    total += conv_bn(width * WIDENING[scale], halved * WIDENING[scale], 1)
                width = halved
        total += exit_at(width * WIDENING[scales - 1])
    return total


def trainable(model: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def test_a_net_whose_exits_read_all_has_the_parameters_of_the_authors() -> None:
    sizes = {"blocks": 3, "base": 1, "step": 2, "channels": 16, "growth": 7, "scales": 1}
    model = build("msdnet", (8, 8, 3), 10, **sizes)
    assert trainable(model) == published_parameters(**sizes, classes=10)


def test_what_no_exit_reads_is_the_only_difference_from_the_authors() -> None:
    # Of the last layer in front of a drop, and of the last one, exits read the coarsest scale
    # alone. With 2 scales: layer 2's finer one, of 2 layers, is dropped; layer 1's is read.
    sizes = {"blocks": 2, "base": 1, "step": 1, "channels": 8, "growth": 4, "scales": 2}
    model = build("msdnet", (8, 8, 3), 10, **sizes)
    names = {layer.name for layer in model.layers}
    assert {"layer1_scale2_concat", "layer2_scale2_concat", "layer1_scale1_concat"} <= names
    assert "layer2_scale1_concat" not in names
    # The authors' classifiers have 128 filters whatever the channels.
    exits = 2 * (9 * 128 * 128 + 2 * 128 + 129 * 10 + 2 * 128)
    ours = 2 * (9 * 64 * 64 + 2 * 64 + 65 * 10 + 2 * 64)
    reads = 9 * (24 + 32 // 2 // 2 * 2) * (128 - 64)
    theirs = published_parameters(**sizes, classes=10)
    assert trainable(model) - ours == theirs - exits - reads


@pytest.mark.slow
def test_exits_hang_behind_the_layers_that_options_say() -> None:
    model = build("msdnet", (16, 16, 1), 5, blocks=3, base=2, step=2, channels=2, growth=2)
    assert model.output_names == ["exit1_logits", "exit2_logits", "logits"]
    read = [model.get_layer(f"{name}_conv1").input.node.layer.name for name in EXITS]
    assert read == ["layer2_scale3_concat", "layer4_scale3_concat", "layer6_scale3_concat"]


EXITS = ("exit1", "exit2", "end")

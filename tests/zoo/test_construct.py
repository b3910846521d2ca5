from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from keras_quant.errors import ModelError, UsageError
from keras_quant.zoo import MODELS, build

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.bench.estimate.fusion import fuse  # noqa: E402
from keras_quant.graph.costs.cost import cost  # noqa: E402
from keras_quant.graph.ir import Node  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402

SUPPORTED_LAYERS = {
    "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Dense",
    "DepthwiseConv2D", "Dropout", "Flatten", "GlobalAveragePooling2D", "InputLayer",
    "MaxPooling2D", "Multiply", "PonderCost", "ReLU", "Reshape", "Sample", "Softmax",
    "UpSampling2D", "ZeroPadding2D",
}  # fmt: skip
# They hold up to 144 million weights, or take seconds to build.
LARGE = ("resnet101", "alexnet", "vgg11", "vgg16", "vgg19", "densenet121")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]
EACH = [name for name in MODELS if name not in LARGE]
SLOW_TO_BUILD = ("resnet32", "resnet56", "resnet34", "resnet50", "b_resnet")
SMALL = [name for name in EACH if name not in SLOW_TO_BUILD]
EARLY_EXITS = {"b_lenet": 1, "b_alexnet": 2, "b_resnet": 2, "msdnet": 3}
CIFAR = ((32, 32, 3), 10)
IMAGE_TO_IMAGE = [name for name, info in MODELS.items() if not info.needs_labels]
# What the papers that count parameters count them at; large ones are built for small images.
IMAGENET = {name: (info.images, info.classes) for name, info in MODELS.items() if info.classes > 10}
SIZES = {
    **dict.fromkeys(("resnet20", "resnet32", "resnet56"), CIFAR),
    **{name: size for name, size in IMAGENET.items() if name not in LARGE},
    **dict.fromkeys(LARGE, ((64, 64, 3), 7)),
}


@functools.cache
def built(name: str) -> keras.Model:
    """A model for the images and classes of its paper, or for small grey images."""
    options = {"blocks": 2} if name == "b_resnet" else {}
    return build(name, *SIZES.get(name, ((28, 28, 1), 7)), **options)


@functools.cache
def counted(name: str) -> tuple[float, float]:
    """Millions of parameters, and 10^9 multiply-accumulates, of a model for ImageNet."""
    model = build(name, *IMAGENET[name]) if name in LARGE else built(name)
    graph = lower(model)
    macs = sum(layer.macs for layer in fuse(graph))
    # DenseNet's batch norms in front of ReLUs, which published counts leave out.
    lone = [n.name for n in graph.nodes if n.weight and n.op == "depthwise_conv2d" and is_1x1(n)]
    assert macs == sum(node.macs for node in cost(graph).nodes if node.name not in lone)
    return count_millions(model), macs / 1e9


def is_1x1(node: Node) -> bool:
    return node.kernel.values.shape[:2] == (1, 1)


@pytest.fixture(params=[*EACH, *SLOW])
def model(request: pytest.FixtureRequest) -> keras.Model:
    return built(request.param)


@pytest.mark.parametrize("name", ["b_lenet", "b_alexnet"])
def test_nets_of_branchynet_are_there_without_their_exits(name: str) -> None:
    whole, alone = build(name, (28, 28, 1), 7), build(name, (28, 28, 1), 7, exits=0)
    assert [output.shape[-1] for output in alone.outputs] == [7]
    without = [layer.name for layer in whole.layers if not layer.name.startswith("exit")]
    assert sorted(without) == sorted(layer.name for layer in alone.layers)


@pytest.mark.thinned(6)
def test_every_model_that_needs_labels_maps_images_to_logits(model: keras.Model) -> None:
    assert model.name in MODELS
    if model.name in IMAGE_TO_IMAGE:
        return
    shape, classes = SIZES.get(model.name, ((28, 28, 1), 7))
    early = EARLY_EXITS.get(model.name, 0)
    assert model.input_shape == (None, *shape)
    assert [tuple(output.shape) for output in model.outputs] == [(None, classes)] * (early + 1)
    assert model.output_names[:-1] == [f"exit{number}_logits" for number in range(1, early + 1)]
    heads = [layer for layer in model.layers if layer.name.endswith("logits") and layer.weights]
    assert len(heads) == early + 1 and model.get_layer("logits") in heads
    assert all(head.activation is keras.activations.linear for head in heads)


def test_every_other_model_puts_out_an_image_last(model: keras.Model) -> None:
    puts_out_an_image = model.outputs[-1].shape[1:] == model.input_shape[1:]
    assert puts_out_an_image == (model.name in IMAGE_TO_IMAGE)


def test_every_model_has_supported_layers_alone(model: keras.Model) -> None:
    assert {type(layer).__name__ for layer in model.layers} <= SUPPORTED_LAYERS


def test_no_layer_has_a_name_that_keras_made_up(model: keras.Model) -> None:
    # Keras numbers those through the process: conv2d_17 is another layer the next time.
    for layer in model.layers:
        assert not re.fullmatch(
            r"(conv2d|dense|re_lu|add|\w*_normalization|\w*2d)(_\d+)?", layer.name
        )


def test_convolution_has_a_bias_only_where_no_batch_norm_follows(model: keras.Model) -> None:
    norms_in_front = model.name.startswith("densenet")
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            followers = [node.outbound_layer for node in layer.outbound_nodes]
            normed = norms_in_front or any(
                isinstance(follower, keras.layers.BatchNormalization) for follower in followers
            )
            assert layer.use_bias != normed
            assert layer.activation is keras.activations.linear


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    "name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in ("alexnet", "vgg11"))]
)
def test_smallest_image_gives_finite_logits(name: str) -> None:
    size = max(MODELS[name].min_size, 8)
    x = np.random.default_rng(0).random((2, size, size, 1), np.float32)
    answers = tf.nest.flatten(build(name, (size, size, 1), 10)(x))
    assert all(np.isfinite(answer.numpy()).all() for answer in answers)


def count_millions(model: keras.Model) -> float:
    """Trainable parameters: papers do not count batch norm's moving averages."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) / 1e6


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet20", 0.27), ("resnet32", 0.46), ("resnet56", 0.85)]
)
def test_cifar_resnet_has_the_parameters_of_the_paper(name: str, millions: float) -> None:
    # He et al. 2016, table 6, whose shortcuts pad with zeros: ours are 1x1 convolutions of
    # 16 * 32 + 32 * 64 weights, with batch norm of 2 * (32 + 64).
    projections = (16 * 32 + 32 * 64 + 2 * (32 + 64)) / 1e6
    assert round(count_millions(built(name)) - projections, 2) == millions


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 11.69),  # this and the next two: torchvision's table of models
        ("resnet34", 21.80),
        ("resnet50", 25.56),
        ("mobilenet_v1", 4.2),  # Howard et al. 2017, table 8
        ("mobilenet_v2", 3.504872),  # torchvision's weights, as are those below
        ("squeezenet1_1", 1.235496),
        *(
            pytest.param(name, count, marks=pytest.mark.slow)
            for name, count in (
                ("resnet101", 44.549160),
                ("alexnet", 61.100840),
                ("vgg11", 132.863336),
                ("vgg16", 138.357544),
                ("vgg19", 143.667240),
                ("densenet121", 7.978856),
            )
        ),
    ],
)
def test_imagenet_model_has_the_parameters_of_the_paper(name: str, millions: float) -> None:
    digits = len(str(millions).partition(".")[2])
    assert round(counted(name)[0], digits) == millions


# torchvision's table of models, "GFLOPS", which are multiply-accumulates.
GIGA_MACS = {"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "mobilenet_v2": 0.30}
GIGA_MACS |= {"squeezenet1_1": 0.35, "resnet101": 7.80, "alexnet": 0.71, "densenet121": 2.83}
GIGA_MACS |= {"vgg11": 7.61, "vgg16": 15.47, "vgg19": 19.63}


@pytest.mark.parametrize(
    "name",
    [
        *("squeezenet1_1", "mobilenet_v2"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in GIGA_MACS
            if name not in ("squeezenet1_1", "mobilenet_v2")
        ),
    ],
)
def test_imagenet_model_has_the_macs_that_torchvision_states(name: str) -> None:
    assert round(counted(name)[1], 2) == GIGA_MACS[name]


def test_width_multiplier_is_that_of_the_paper() -> None:
    # Howard et al. 2017, table 6: 0.25 MobileNet-224 has 0.5 million parameters.
    model = build("mobilenet_v1", (224, 224, 3), 1000, alpha=0.25)
    assert round(model.count_params() / 1e6, 1) == 0.5


@pytest.mark.slow
def test_large_images_get_the_strided_stem() -> None:
    for name in ("resnet18", "mobilenet_v2"):
        assert build(name, (32, 32, 3), 10).get_layer("conv1").strides == (1, 1)
        assert build(name, (64, 64, 3), 10).get_layer("conv1").strides == (2, 2)


def test_equal_seeds_give_equal_weights() -> None:
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        weights.append(build("resnet8", (8, 8, 1), 10).get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", ["unet_small", "ds_unet_small"])
def test_a_u_net_doubles_channels_as_pixels_halve_and_takes_what_was_there(name: str) -> None:
    model = build(name, (16, 8, 3), 10, width=4)
    shapes = {layer.name: layer.output_shape[1:] for layer in model.layers[1:]}
    assert [shapes[f"{level}_relu2"] for level in ("down1", "down2", "middle")] == [
        *((16, 8, 4), (8, 4, 8), (4, 2, 16)),
    ]
    assert [shapes[f"{level}_concat"][-1] for level in ("up2", "up1")] == [8 + 8, 4 + 4]
    with pytest.raises(ModelError, match=f"{name} needs images .* multiples of 4; these are 6x8"):
        build(name, (6, 8, 1), 10)


def test_a_separable_u_net_convolves_pixels_and_channels_apart() -> None:
    kernels = {
        name: sum(
            3 in getattr(layer, "kernel_size", ()) and type(layer) is keras.layers.Conv2D
            for layer in built(name).layers
        )
        for name in ("unet_small", "ds_unet_small")
    }
    assert kernels == {"unet_small": 10, "ds_unet_small": 1}


def test_a_variational_autoencoder_has_the_parameters_of_its_layers() -> None:
    # 784-400-20-400-784 with biases, and a second layer of 20 for the variances.
    dense = [(784, 400), (400, 20), (400, 20), (20, 400), (400, 784)]
    expected = sum((inputs + 1) * outputs for inputs, outputs in dense)
    assert build("vae", (28, 28, 1), 10).count_params() == expected


def test_unknown_model_suggests_close_ones() -> None:
    with pytest.raises(UsageError, match="no model 'resnet21'; close names: .*resnet20"):
        build("resnet21", (8, 8, 1), 10)


def test_wrong_options_come_at_once() -> None:
    with pytest.raises(UsageError, match="(?s)alpha is 7; 0.1 to 2.0.*no option depth; it has"):
        build("mobilenet_v2", (32, 32, 3), 10, alpha=7, depth=3)
    with pytest.raises(UsageError, match="mlp: units is 1.5; an integer"):
        build("mlp", (8, 8, 1), 10, units=1.5)


def test_too_small_image_is_told() -> None:
    with pytest.raises(ModelError, match="cnn needs images of at least 4x4 pixels; these are 3x9"):
        build("cnn", (3, 9, 1), 10)


def test_vectors_are_for_models_without_windows() -> None:
    assert build("mlp", (13,), 3).output_shape == (None, 3)
    with pytest.raises(ModelError, match=r"cnn takes images.*; these are \(13,\): give mlp"):
        build("cnn", (13,), 3)

"""The models known by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A number that a user may set; int where the default is one.

    Attributes:
        low: lowest value that is allowed, inclusive.
        high: highest value that is allowed, inclusive.
    """

    default: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One line of `kq models`.

    Attributes:
        builder: "module:function" that builds it; takes input_shape, num_classes and options.
        description: one line.
        fixed: arguments of the builder that make this model the one of its name.
        options: further arguments of the builder, which a user may set.
        min_size: fewest pixels of an image's height and width.
        images: (height, width, channels) of the images that its paper reports, and classes: what
            costs and latencies are counted of where nobody says otherwise; None for none.
        needs_labels: whether it tells classes apart; others put out an image, and take images
            without labels.
        needs_elbo: whether it is a variational autoencoder, see `Dataset.elbo`.
    """

    builder: str
    description: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    min_size: int = 1
    images: tuple[int, int, int] | None = None
    classes: int = 10
    needs_labels: bool = True
    needs_elbo: bool = False


_PLAIN = "keras_quant.zoo.plain"
_RESNET = "keras_quant.zoo.resnet"
_BRANCHY = "keras_quant.zoo.branchy"
_MULTI_SCALE = "keras_quant.zoo.multi_scale"
_ADAPTIVE = "keras_quant.zoo.adaptive"
_DEPTHWISE = "keras_quant.zoo.depthwise"
_VGG = "keras_quant.zoo.vgg"
_CONCATENATING = "keras_quant.zoo.concatenating"
_VARIATIONAL = "keras_quant.zoo.variational"
_IMAGE_TO_IMAGE = "keras_quant.zoo.image_to_image"
_IMAGENET = (224, 224, 3)
_IMAGENET_CLASSES = 1000
_CIFAR = (32, 32, 3)
_DROPOUT = {"dropout": Option(default=0.25, low=0.0, high=0.9)}
_ALPHA = {"alpha": Option(default=1.0, low=0.1, high=2.0)}


def _cifar_resnet(name: str, description: str, blocks: int) -> ModelInfo:
    return ModelInfo(
        builder=f"{_RESNET}:cifar_resnet",
        description=description,
        fixed={"blocks": blocks, "widths": (16, 32, 64), "name": name},
        images=_CIFAR,
    )


def _imagenet_resnet(
    name: str, description: str, blocks: tuple[int, ...], *, bottleneck: bool
) -> ModelInfo:
    return ModelInfo(
        builder=f"{_RESNET}:imagenet_resnet",
        description=description,
        fixed={"blocks": blocks, "bottleneck": bottleneck, "name": name},
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    )


def _vgg(name: str, description: str, convolutions: tuple[int, ...]) -> ModelInfo:
    return ModelInfo(
        builder=f"{_VGG}:vgg",
        description=description,
        fixed={"convolutions": convolutions, "name": name},
        min_size=32,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    )


def _unet(name: str, description: str, *, separable: bool) -> ModelInfo:
    return ModelInfo(
        builder=f"{_IMAGE_TO_IMAGE}:unet",
        description=description,
        fixed={"separable": separable, "name": name},
        options={"width": Option(default=16, low=1, high=256)},
        min_size=4,
        images=_CIFAR,
        needs_labels=False,
    )


MODELS: dict[str, ModelInfo] = {
    "mlp": ModelInfo(
        builder=f"{_PLAIN}:mlp",
        description="two hidden layers with batch norm",
        options={"units": Option(default=128, low=1, high=4096)},
    ),
    "lenet5": ModelInfo(
        builder=f"{_PLAIN}:lenet5", description="LeNet-5 with ReLU and max-pooling", min_size=4
    ),
    "cnn": ModelInfo(
        builder=f"{_PLAIN}:cnn",
        description="VGG-like: four 3x3 convolutions with batch norm, one hidden layer",
        fixed={"batch_norm": True},
        options=_DROPOUT,
        min_size=4,
    ),
    "cnn_nobn": ModelInfo(
        builder=f"{_PLAIN}:cnn",
        description="cnn without batch norm",
        fixed={"batch_norm": False},
        options=_DROPOUT,
        min_size=4,
    ),
    "ds_cnn": ModelInfo(
        builder=f"{_DEPTHWISE}:ds_cnn",
        description="DS-CNN: a stem and four depthwise separable blocks",
        options={"width": Option(default=64, low=1, high=1024)},
    ),
    "resnet8": _cifar_resnet("resnet8", "ResNet-8 for small images, as in MLPerf Tiny", 1),
    "resnet20": _cifar_resnet("resnet20", "ResNet-20 for small images", 3),
    "resnet32": _cifar_resnet("resnet32", "ResNet-32 for small images", 5),
    "resnet56": _cifar_resnet("resnet56", "ResNet-56 for small images", 9),
    "resnet18": _imagenet_resnet("resnet18", "ResNet-18", (2, 2, 2, 2), bottleneck=False),
    "resnet34": _imagenet_resnet("resnet34", "ResNet-34", (3, 4, 6, 3), bottleneck=False),
    "resnet50": _imagenet_resnet("resnet50", "ResNet-50", (3, 4, 6, 3), bottleneck=True),
    "resnet101": _imagenet_resnet("resnet101", "ResNet-101", (3, 4, 23, 3), bottleneck=True),
    "b_lenet": ModelInfo(
        builder=f"{_BRANCHY}:b_lenet",
        description="BranchyNet's LeNet: an exit behind the first of three convolutions",
        options={"exits": Option(default=1, low=0, high=1)},
        min_size=8,
    ),
    "b_alexnet": ModelInfo(
        builder=f"{_BRANCHY}:b_alexnet",
        description="BranchyNet's AlexNet for small images, with two exits",
        options={
            "dropout": Option(default=0.5, low=0.0, high=0.9),
            "exits": Option(default=2, low=0, high=2),
        },
        min_size=8,
    ),
    "b_resnet": ModelInfo(
        builder=f"{_BRANCHY}:b_resnet",
        description="BranchyNet's ResNet-110 (blocks=18) with two exits",
        options={
            "blocks": Option(default=18, low=2, high=32),
            "exits": Option(default=2, low=0, high=2),
        },
    ),
    "msdnet": ModelInfo(
        builder=f"{_MULTI_SCALE}:msdnet",
        description="MSDNet: dense features of several scales, an exit behind each block",
        options={
            "blocks": Option(default=4, low=2, high=16),
            "base": Option(default=2, low=1, high=16),
            "step": Option(default=1, low=1, high=16),
            "channels": Option(default=16, low=1, high=256),
            "growth": Option(default=6, low=1, high=128),
            "scales": Option(default=3, low=1, high=4),
        },
        images=_CIFAR,
    ),
    "sact_resnet": ModelInfo(
        builder=f"{_ADAPTIVE}:sact_resnet",
        description="ResNet-20 (blocks=3) that halts at each position by itself; tau prices units",
        options={
            "blocks": Option(default=3, low=2, high=32),
            "tau": Option(default=0.01, low=0.0, high=10.0),
        },
        images=_CIFAR,
    ),
    "mobilenet_v1": ModelInfo(
        builder=f"{_DEPTHWISE}:mobilenet_v1",
        description="MobileNet v1; alpha is the width multiplier",
        options=_ALPHA,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    ),
    "mobilenet_v2": ModelInfo(
        builder=f"{_DEPTHWISE}:mobilenet_v2",
        description="MobileNet v2; alpha is the width multiplier",
        options=_ALPHA,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    ),
    "alexnet": ModelInfo(
        builder=f"{_VGG}:alexnet",
        description="AlexNet of 2014, in one column",
        min_size=63,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    ),
    "vgg11": _vgg("vgg11", "VGG-11 without batch norm", (1, 1, 2, 2, 2)),
    "vgg16": _vgg("vgg16", "VGG-16 without batch norm", (2, 2, 3, 3, 3)),
    "vgg19": _vgg("vgg19", "VGG-19 without batch norm", (2, 2, 4, 4, 4)),
    "squeezenet1_1": ModelInfo(
        builder=f"{_CONCATENATING}:squeezenet",
        description="SqueezeNet 1.1",
        min_size=31,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    ),
    "densenet121": ModelInfo(
        builder=f"{_CONCATENATING}:densenet",
        description="DenseNet-121",
        fixed={"blocks": (6, 12, 24, 16), "growth": 32, "name": "densenet121"},
        min_size=8,
        images=_IMAGENET,
        classes=_IMAGENET_CLASSES,
    ),
    "unet_small": _unet("unet_small", "U-Net of two poolings: image to image", separable=False),
    "ds_unet_small": _unet(
        "ds_unet_small", "unet_small of depthwise separable convolutions", separable=True
    ),
    "vae": ModelInfo(
        builder=f"{_VARIATIONAL}:vae",
        description="variational autoencoder of dense layers; for data +elbo",
        options={
            "units": Option(default=400, low=1, high=4096),
            "latent": Option(default=20, low=1, high=1024),
        },
        needs_labels=False,
        needs_elbo=True,
    ),
}

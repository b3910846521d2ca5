"""Networks that are not in the zoo, and whose latency on Jetson boards others have published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from keras_quant.tf import keras

L = keras.layers


def _conv(
    x: Any,
    filters: int,
    size: int | tuple[int, int],
    strides: int = 1,
    *,
    padding: str = "same",
    relu: bool = True,
) -> Any:
    """A convolution with a bias: batch norm would be folded into it anyway."""
    x = L.Conv2D(filters, size, strides=strides, padding=padding)(x)
    return L.ReLU()(x) if relu else x


def _depthwise(x: Any, size: int = 3, strides: int = 1) -> Any:
    return L.ReLU()(L.DepthwiseConv2D(size, strides=strides, padding="same")(x))


def mnasnet1_0() -> keras.Model:
    """torchvision's MNASNet 1.0 (Tan et al. 2019): 0.31 G multiply-accumulates."""
    inputs = keras.Input((224, 224, 3))
    x = _conv(inputs, 32, 3, 2)
    x = _conv(_depthwise(x), 16, 1, relu=False)
    stages = ((24, 3, 3, 2, 3), (40, 5, 3, 2, 3), (80, 5, 6, 2, 3))
    stages += ((96, 3, 6, 1, 2), (192, 5, 6, 2, 4), (320, 3, 6, 1, 1))
    for filters, size, expansion, strides, repeats in stages:
        for repeat in range(repeats):
            before = x
            x = _conv(x, expansion * x.shape[-1], 1)
            x = _depthwise(x, size, strides if repeat == 0 else 1)
            x = _conv(x, filters, 1, relu=False)
            if repeat:
                x = L.Add()([before, x])
    x = L.GlobalAveragePooling2D()(_conv(x, 1280, 1))
    return keras.Model(inputs, L.Dense(1000)(x), name="mnasnet1_0")


def googlenet() -> keras.Model:
    """GoogLeNet (Szegedy et al. 2015, table 1), without its auxiliary heads."""
    inputs = keras.Input((224, 224, 3))
    x = L.MaxPooling2D(3, 2, padding="same")(_conv(inputs, 64, 7, 2))
    x = _conv(_conv(x, 64, 1), 192, 3)
    x = L.MaxPooling2D(3, 2, padding="same")(x)
    modules = (
        *((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None),
        *((192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64)),
        *((112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None),
        *((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
    )
    for module in modules:
        if module is None:
            x = L.MaxPooling2D(3, 2, padding="same")(x)
            continue
        one, reduced3, three, reduced5, five, pooled = module
        x = L.Concatenate()(
            [
                _conv(x, one, 1),
                _conv(_conv(x, reduced3, 1), three, 3),
                _conv(_conv(x, reduced5, 1), five, 5),
                _conv(L.MaxPooling2D(3, 1, padding="same")(x), pooled, 1),
            ]
        )
    return keras.Model(inputs, L.Dense(1000)(L.GlobalAveragePooling2D()(x)), name="googlenet")


def tiny_yolo_v3() -> keras.Model:
    """yolov3-tiny.cfg of Darknet at 416x416: 2.78 G multiply-accumulates."""
    inputs = keras.Input((416, 416, 3))
    x = inputs
    for filters in (16, 32, 64, 128):
        x = L.MaxPooling2D()(_conv(x, filters, 3))
    early = _conv(x, 256, 3)
    x = _conv(L.MaxPooling2D()(early), 512, 3)
    x = _conv(L.MaxPooling2D(2, 1, padding="same")(x), 1024, 3)
    x = _conv(x, 256, 1)
    coarse = _conv(_conv(x, 512, 3), 255, 1, relu=False)
    x = L.Concatenate()([L.UpSampling2D()(_conv(x, 128, 1)), early])
    fine = _conv(_conv(x, 256, 3), 255, 1, relu=False)
    return keras.Model(inputs, [coarse, fine], name="tiny_yolo_v3")


def inception_v4() -> keras.Model:
    """Inception-v4 (Szegedy et al. 2017, figure 9) at 299x299: 12.3 G multiply-accumulates."""
    inputs = keras.Input((299, 299, 3))
    x = _conv(inputs, 32, 3, 2, padding="valid")
    x = _conv(_conv(x, 32, 3, padding="valid"), 64, 3)
    x = L.Concatenate()([L.MaxPooling2D(3, 2)(x), _conv(x, 96, 3, 2, padding="valid")])
    straight = _conv(_conv(x, 64, 1), 96, 3, padding="valid")
    crossed = _conv(_conv(_conv(x, 64, 1), 64, (1, 7)), 64, (7, 1))
    x = L.Concatenate()([straight, _conv(crossed, 96, 3, padding="valid")])
    x = L.Concatenate()([_conv(x, 192, 3, 2, padding="valid"), L.MaxPooling2D(3, 2)(x)])
    for _ in range(4):
        x = _inception_a(x)
    x = L.Concatenate()(
        [
            L.MaxPooling2D(3, 2)(x),
            _conv(x, 384, 3, 2, padding="valid"),
            _conv(_conv(_conv(x, 192, 1), 224, 3), 256, 3, 2, padding="valid"),
        ]
    )
    for _ in range(7):
        x = _inception_b(x)
    tall = _conv(_conv(_conv(x, 256, 1), 256, (1, 7)), 320, (7, 1))
    x = L.Concatenate()(
        [
            L.MaxPooling2D(3, 2)(x),
            _conv(_conv(x, 192, 1), 192, 3, 2, padding="valid"),
            _conv(tall, 320, 3, 2, padding="valid"),
        ]
    )
    for _ in range(3):
        x = _inception_c(x)
    return keras.Model(inputs, L.Dense(1000)(L.GlobalAveragePooling2D()(x)), name="inception_v4")


def _inception_a(x: Any) -> Any:
    return L.Concatenate()(
        [
            _conv(L.AveragePooling2D(3, 1, padding="same")(x), 96, 1),
            _conv(x, 96, 1),
            _conv(_conv(x, 64, 1), 96, 3),
            _conv(_conv(_conv(x, 64, 1), 96, 3), 96, 3),
        ]
    )


def _inception_b(x: Any) -> Any:
    long = _conv(_conv(_conv(x, 192, 1), 192, (1, 7)), 224, (7, 1))
    return L.Concatenate()(
        [
            _conv(L.AveragePooling2D(3, 1, padding="same")(x), 128, 1),
            _conv(x, 384, 1),
            _conv(_conv(_conv(x, 192, 1), 224, (1, 7)), 256, (7, 1)),
            _conv(_conv(long, 224, (1, 7)), 256, (7, 1)),
        ]
    )


def _inception_c(x: Any) -> Any:
    near = _conv(x, 384, 1)
    far = _conv(_conv(_conv(x, 384, 1), 448, (1, 3)), 512, (3, 1))
    return L.Concatenate()(
        [
            _conv(L.AveragePooling2D(3, 1, padding="same")(x), 256, 1),
            _conv(x, 256, 1),
            *(_conv(near, 256, size) for size in ((1, 3), (3, 1))),
            *(_conv(far, 256, size) for size in ((1, 3), (3, 1))),
        ]
    )


def ssd_mobilenet_v1() -> keras.Model:
    """MLPerf's SSD-MobileNet-v1 at 300x300, up to the boxes: 1.24 G multiply-accumulates."""
    inputs = keras.Input((300, 300, 3))
    x = _conv(inputs, 32, 3, 2)
    blocks = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
    for filters, strides in blocks:
        x = _conv(_depthwise(x, 3, strides), filters, 1)
    maps = [x]
    for filters, strides in ((1024, 2), (1024, 1)):
        x = _conv(_depthwise(x, 3, strides), filters, 1)
    maps.append(x)
    for reduced, filters in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = _conv(_conv(x, reduced, 1), filters, 3, 2)
        maps.append(x)
    return _boxes(inputs, maps, (3, 6, 6, 6, 6, 6), 91, "ssd_mobilenet_v1")


def ssd_resnet34() -> keras.Model:
    """MLPerf's SSD-ResNet34 at 1200x1200, up to the boxes: 216 G multiply-accumulates."""
    inputs = keras.Input((1200, 1200, 3))
    x = L.MaxPooling2D(3, 2, padding="same")(_conv(inputs, 64, 7, 2))
    for filters, strides, repeats in ((64, 1, 3), (128, 2, 4), (256, 1, 6)):
        for repeat in range(repeats):
            step = strides if repeat == 0 else 1
            same = step == 1 and x.shape[-1] == filters
            shortcut = x if same else _conv(x, filters, 1, step, relu=False)
            x = _conv(_conv(x, filters, 3, step), filters, 3, relu=False)
            x = L.ReLU()(L.Add()([x, shortcut]))
    maps = [x]
    extra = ((256, 512, 2), (256, 512, 2), (128, 256, 2), (128, 256, 2), (128, 256, 1))
    for reduced, filters, strides in extra:
        x = _conv(_conv(x, reduced, 1), filters, 3, strides)
        maps.append(x)
    steps = (3, 3, 2, 2, 2, 2)
    return _boxes(inputs, maps, (4, 6, 6, 6, 4, 4), 81, "ssd_resnet34", size=3, steps=steps)


def yolov8n() -> keras.Model:
    """YOLOv8n at 640x640 up to the boxes (ultralytics yolov8.yaml): 4.4 G multiply-accumulates.

    Its SiLUs are kernels of their own, as in engines of TensorRT 8.5 for Volta.
    """
    inputs = keras.Input((640, 640, 3))
    x = _split_block(_silu(_silu(inputs, 16, 3, 2), 32, 3, 2), 32, 1)
    fine = _split_block(_silu(x, 64, 3, 2), 64, 2)
    middle = _split_block(_silu(fine, 128, 3, 2), 128, 2)
    x = _split_block(_silu(middle, 256, 3, 2), 256, 1)
    pooled = [_silu(x, 128, 1)]
    for _ in range(3):
        pooled.append(L.MaxPooling2D(5, 1, padding="same")(pooled[-1]))
    coarse = _silu(L.Concatenate()(pooled), 256, 1)
    middle = L.Concatenate()([L.UpSampling2D()(coarse), middle])
    middle = _split_block(middle, 128, 1, shortcut=False)
    fine = L.Concatenate()([L.UpSampling2D()(middle), fine])
    fine = _split_block(fine, 64, 1, shortcut=False)
    middle = L.Concatenate()([_silu(fine, 64, 3, 2), middle])
    middle = _split_block(middle, 128, 1, shortcut=False)
    coarse = L.Concatenate()([_silu(middle, 128, 3, 2), coarse])
    coarse = _split_block(coarse, 256, 1, shortcut=False)
    outputs = []
    for features in (fine, middle, coarse):
        for filters, values in ((64, 64), (80, 80)):
            x = _silu(_silu(features, filters, 3), filters, 3)
            outputs.append(_conv(x, values, 1, relu=False))
    return keras.Model(inputs, outputs, name="yolov8n")


def _silu(x: Any, filters: int, size: int, strides: int = 1) -> Any:
    return L.Activation("swish")(_conv(x, filters, size, strides, relu=False))


def _split_block(x: Any, filters: int, repeats: int, *, shortcut: bool = True) -> Any:
    """A C2f block: halves of a 1x1 convolution, one of which goes on through bottlenecks.

    The halves are two convolutions here, which are as much work as one that is split.
    """
    parts = [_silu(x, filters // 2, 1), _silu(x, filters // 2, 1)]
    for _ in range(repeats):
        new = _silu(_silu(parts[-1], filters // 2, 3), filters // 2, 3)
        parts.append(L.Add()([parts[-1], new]) if shortcut else new)
    return _silu(L.Concatenate()(parts), filters, 1)


def _boxes(
    inputs: Any,
    maps: Sequence[Any],
    anchors: Sequence[int],
    classes: int,
    name: str,
    *,
    size: int = 1,
    steps: Sequence[int] = (1,) * 6,
) -> keras.Model:
    """Places and classes of boxes, a convolution each for every map."""
    outputs = [
        _conv(features, count * values, size, step, relu=False)
        for features, count, step in zip(maps, anchors, steps, strict=True)
        for values in (4, classes)
    ]
    return keras.Model(inputs, outputs, name=name)


NETS: dict[str, Callable[[], keras.Model]] = {
    function.__name__: function
    for function in (
        *(mnasnet1_0, googlenet, tiny_yolo_v3, inception_v4),
        *(ssd_mobilenet_v1, ssd_resnet34, yolov8n),
    )
}

"""docs/tfmot.md says what is lowered of TF-MOT, and what is not: each of its rows is tried."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import LoweringError, ModelError, RunError

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.filterwarnings("ignore::UserWarning")]

from keras_quant.jobs.paths import files_of  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.methods.tfmot.door import quantizers, tfmot  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.methods.tfmot.nets import (  # noqa: E402
    L,
    Q,
    codes_wrong,
    float_net,
    net,
    share_different,
    with_ranges,
)

PAGE = Path(__file__).parents[3] / "docs" / "tfmot.md"
FLOAT32_SHARE = 1e-3  # what the page allows
IMAGE = (6, 6, 3)

COLLAB = "tensorflow_model_optimization.python.core.quantization.keras.collab_opts"


def collab(module: str, name: str) -> Any:
    """What TF-MOT has of quantization that keeps zeros or clusters, which its API does not name."""
    return getattr(importlib.import_module(f"{COLLAB}.{module}"), name)


Pruned = collab(
    "prune_preserve.default_8bit_prune_preserve_quantize_scheme",
    "Default8BitPrunePreserveQuantizeScheme",
)
Clustered = collab(
    "cluster_preserve.default_8bit_cluster_preserve_quantize_scheme",
    "Default8BitClusterPreserveQuantizeScheme",
)
strip_clustering_cqat = collab("cluster_preserve.cluster_utils", "strip_clustering_cqat")
NBit = tfmot.quantization.keras.experimental.default_n_bit.DefaultNBitQuantizeScheme


def rows(heading: str) -> dict[str, str]:
    """The verdicts of the table behind a heading, by their rows' first cell."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return dict(lines[1:])


def row(*layers: Any) -> Callable[[Any], Any]:
    """A body of layers one after the other."""

    def body(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return body


def conv(filters: int = 4, size: int = 3, **settings: Any) -> Any:
    return L.Conv2D(filters, size, **settings)


def bare(kind: Any, *arguments: Any) -> Any:
    return kind(*arguments, use_bias=False)


def branches(count: int) -> Callable[[Any], list[Any]]:
    def split(x: Any) -> list[Any]:
        x = conv(activation="relu")(x)
        return [conv(4, 1, activation="relu" if n % 2 else None)(x) for n in range(count)]

    return split


NORM, FLAT = L.BatchNormalization, L.Flatten
# Layers are made when they are asked for, as TF-MOT makes some with automatic names too: these and
# the model's must be of one session, or they may be the same.
LAYERS: dict[str, Callable[[], list[Callable[[Any], Any]]]] = {
    "Conv2D, Dense, with activation None or 'relu'": lambda: [
        row(conv(), conv(activation="relu"), FLAT(), L.Dense(5, activation="relu"), L.Dense(3)),
    ],
    "DepthwiseConv2D, with depth_multiplier or without": lambda: [
        row(L.DepthwiseConv2D(3, activation="relu"), L.DepthwiseConv2D(2, depth_multiplier=2)),
    ],
    "SeparableConv2D, which TF-MOT takes apart": lambda: [
        row(L.SeparableConv2D(4, 3, activation="relu"), conv()),
    ],
    "Conv2DTranspose": lambda: [row(L.Conv2DTranspose(4, 3, strides=2, activation="relu"), conv())],
    "Conv2D, DepthwiseConv2D, Dense, then BatchNormalization, then ReLU, ReLU(6) or "
    "Activation('relu')": lambda: [
        row(bare(L.Conv2D, 4, 3), NORM(), L.ReLU(), conv()),
        row(bare(L.DepthwiseConv2D, 3), NORM(), L.ReLU(6.0), conv()),
        row(FLAT(), bare(L.Dense, 5), NORM(), L.Activation("relu"), L.Dense(3)),
    ],
    "Conv2D, DepthwiseConv2D, then BatchNormalization alone": lambda: [
        row(conv(), NORM(), bare(L.DepthwiseConv2D, 2), NORM(), conv(4, 1)),
    ],
    "Conv2D, DepthwiseConv2D, Dense, then a ReLU layer without a BatchNormalization": lambda: [
        row(conv(), L.ReLU()), row(L.DepthwiseConv2D(3), L.ReLU()), row(L.Dense(4), L.ReLU()),
    ],
    "a Dense head with softmax or sigmoid: codes, then the function in float": lambda: [
        row(FLAT(), L.Dense(4, activation="softmax")),
        row(FLAT(), L.Dense(1, activation="sigmoid")),
    ],
    "tanh, swish, gelu as an activation": lambda: [
        row(conv(activation="swish"), conv(3, 2, activation="gelu"), FLAT(), L.Dense(3, "tanh"),
            L.Dense(2)),
    ],
    "LeakyReLU": lambda: [row(conv(), L.LeakyReLU(0.1), conv())],
    "Add, and Add then ReLU": lambda: [
        row(branches(2), L.Add(), L.ReLU(), conv(4, 1)), row(branches(3), L.Add(), conv(4, 1)),
    ],
    "Concatenate of 2 to 6": lambda: [
        row(branches(2), L.Concatenate(), conv(4, 1)),
        row(branches(6), L.Concatenate(), conv(4, 1)),
    ],
    "MaxPooling2D, GlobalMaxPooling2D": lambda: [
        row(conv(activation="relu"), L.MaxPooling2D(), conv(4, 1), L.GlobalMaxPooling2D(),
            L.Dense(3)),
    ],
    "AveragePooling2D, GlobalAveragePooling2D": lambda: [
        row(conv(activation="relu"), L.AveragePooling2D(), conv(4, 1), L.GlobalAveragePooling2D(),
            L.Dense(3)),
    ],
    "Flatten, Reshape, Permute, ZeroPadding2D, Cropping2D, UpSampling2D": lambda: [
        row(conv(activation="relu"), L.ZeroPadding2D(2), L.Cropping2D(1), L.UpSampling2D(),
            L.Permute((2, 1, 3)), conv(), L.Reshape((-1,)), L.Dense(3)),
    ],
    "Dropout, SpatialDropout2D": lambda: [
        row(conv(activation="relu"), L.SpatialDropout2D(0.2), conv(), L.Dropout(0.1), FLAT(),
            L.Dense(3)),
    ],
}  # fmt: skip


class Config(Q.QuantizeConfig):
    """Quantizes one weight, as a user's own config does."""

    quantizer: Any
    weight = "kernel"

    def get_weights_and_quantizers(self, layer: Any) -> list[Any]:
        return [(getattr(layer, self.weight), self.quantizer)]

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        setattr(layer, self.weight, quantize_weights[0])

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Any]:
        return [quantizers.MovingAverageQuantizer(8, False, False, False)]

    def get_config(self) -> dict[str, Any]:
        return {}


class OwnQuantizer(quantizers.NoQuantizer):
    """What rounds nothing, under a name of its own."""


def last(*, symmetric: bool, narrow_range: bool, per_axis: bool = False) -> Any:
    return quantizers.LastValueQuantizer(8, per_axis, symmetric, narrow_range)


def nbit(weight: int, activation: int) -> keras.Model:
    return by_scheme(dense_net, NBit(num_bits_weight=weight, num_bits_activation=activation))


def by_scheme(body: Callable[[Any], Any], scheme: Any) -> keras.Model:
    def quantize(model: keras.Model) -> keras.Model:
        return Q.quantize_apply(Q.quantize_annotate_model(model), scheme=scheme)

    return net(body, IMAGE, quantize)


def with_config(quantizer: Any, weight: str = "kernel", layer: Any = None) -> keras.Model:
    """A model with a layer of a config of one's own, which TF-MOT makes anew from its settings."""
    kind = type("Own", (Config,), {"quantizer": quantizer, "weight": weight})
    annotated = Q.quantize_annotate_layer(layer or conv(name="odd"), kind())
    with Q.quantize_scope({"Own": kind}):
        return net(row(annotated, FLAT()), IMAGE, Q.quantize_apply)


def some_layers() -> keras.Model:
    body = row(conv(activation="relu"), Q.quantize_annotate_layer(conv()), conv(4, 1))
    return net(body, IMAGE, Q.quantize_apply)


def fixed() -> keras.Model:
    with Q.quantize_scope():
        quantized = Q.quantize_model(float_net(dense_net, IMAGE))
        made = Q.fix_input_output_range(quantized, 8, -2.0, 2.0, -4.0, 4.0)
    return with_ranges(made)


def unfixed() -> keras.Model:
    with Q.quantize_scope():
        quantized = Q.quantize_model(float_net(dense_net, IMAGE))
        made = Q.remove_input_range(quantized)
    return with_ranges(made)


def untrained() -> keras.Model:
    return Q.quantize_model(float_net(dense_net, IMAGE))


def dense_net(x: Any) -> Any:
    layers = (conv(activation="relu"), bare(L.Conv2D, 4, 1), NORM(), L.ReLU(), FLAT(), L.Dense(3))
    return row(*layers)(x)


# By row: models, and of refused ones a part of the reason.
QUANTIZERS: dict[str, list[tuple[Callable[[], keras.Model], str]]] = {
    "the default 8-bit scheme": [(lambda: net(dense_net, IMAGE), "")],
    "DefaultNBitQuantizeScheme of 2 to 8 bits": [
        (lambda: nbit(4, 8), ""), (lambda: nbit(3, 4), ""), (lambda: nbit(2, 2), ""),
    ],
    "quantize_annotate_layer of some layers": [(some_layers, "")],
    "fix_input_output_range": [(fixed, "")],
    "remove_input_range": [(unfixed, "")],
    "a QuantizeConfig with LastValueQuantizer(symmetric=True, narrow_range=True)": [
        (lambda: with_config(last(symmetric=True, narrow_range=True)), ""),
    ],
    "a QuantizeConfig whose kernel has codes beyond 127 from that of 0, as with symmetric=False at "
    "8 bits": [
        (lambda: with_config(last(symmetric=False, narrow_range=False)), "int8 kernels"),
    ],
    "a QuantizeConfig that gives a Conv2DTranspose a range for each place along the last axis, its "
    "inputs": [
        (
            lambda: with_config(
                last(symmetric=True, narrow_range=True, per_axis=True),
                layer=L.Conv2DTranspose(2, 3, name="odd"),
            ),
            "one scale for each output channel .axis 2.. Give its quantizer per_axis=False",
        ),
    ],
    "a QuantizeConfig that quantizes other weights than a kernel": [
        (
            lambda: with_config(
                last(symmetric=True, narrow_range=True), "gamma", NORM(name="odd")
            ),
            "weights of a BatchNormalization",
        ),
    ],
    "a QuantizeConfig with a quantizer of one's own": [
        (lambda: with_config(OwnQuantizer()), "OwnQuantizer is not lowered"),
    ],
    "AllValuesQuantizer that saw no image: its range is 0 to 0": [
        (untrained, "range 0 to 0, which has no codes"),
    ],
}  # fmt: skip


def check_lowered(model: keras.Model) -> None:
    assert share_different(model) <= FLOAT32_SHARE
    for name in ("tflite", "onnx"):
        assert codes_wrong(model, name) == 0
    codes_wrong(model, "tensorrt")


def float_kernels(model: keras.Model) -> list[str]:
    return [node.name for node in lower(model).nodes if node.weight and node.weight.scale is None]


def test_page_and_tests_have_the_same_rows() -> None:
    assert list(rows("Layers")) == list(LAYERS)
    assert list(rows("Quantizers")) == list(QUANTIZERS)
    assert list(rows("Files")) == list(FILES)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    for body in LAYERS[name]():
        model = net(body, IMAGE)
        assert (rows("Layers")[name] == "float") == bool(float_kernels(model))
        check_lowered(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizers(name: str) -> None:
    for make, reason in QUANTIZERS[name]:
        if rows("Quantizers")[name] == "exact":
            check_lowered(make())
        else:
            with pytest.raises(LoweringError, match=reason) as caught:
                lower(make())
            assert "layer " in str(caught.value)


def saved(model: keras.Model, path: Path) -> Path:
    model.save(path)
    return path


def dense(x: Any) -> Any:
    """New layers each time: cluster_weights takes kernels out of those that it is given."""
    return L.Dense(3)(FLAT()(x))


PRUNE = tfmot.sparsity.keras.prune_low_magnitude
CLUSTER = tfmot.clustering.keras.cluster_weights
LINEAR = tfmot.clustering.keras.CentroidInitialization.LINEAR
# By row: a file's name, the model in it, and of refused ones a part of the reason.
FILES: dict[str, tuple[str, Callable[[], keras.Model], str]] = {
    ".h5 and .keras of `model.save`": ("m.h5", lambda: net(dense, IMAGE), ""),
    "a SavedModel, the folder that `model.save` writes without an ending": (
        "m", lambda: net(dense, IMAGE), "",
    ),
    "with PruneLowMagnitude: strip_pruning first": (
        "m.keras", lambda: PRUNE(float_net(dense, IMAGE)), "save what .*strip_pruning",
    ),
    "with ClusterWeights: strip_clustering first": (
        "m.h5",
        lambda: CLUSTER(
            float_net(dense, IMAGE), number_of_clusters=3, cluster_centroids_init=LINEAR
        ),
        "save what .*strip_clustering",
    ),
    "what TF-MOT trained with zeros kept (PQAT)": (
        "m.keras", lambda: by_scheme(dense, Pruned()), "",
    ),
    "what it trained with clusters kept (CQAT), .h5 or .keras: strip_clustering_cqat first": (
        "m.keras",
        lambda: by_scheme(dense, Clustered(preserve_sparsity=False)),
        "its weights do not fit .*save what .*strip_clustering_cqat",
    ),
    "what strip_clustering_cqat gives of that": (
        "m.h5",
        lambda: strip_clustering_cqat(
            by_scheme(dense, Clustered(preserve_sparsity=False))
        ),
        "",
    ),
    "with QuantizeAnnotate: quantize_apply first": (
        "m.h5", lambda: Q.quantize_annotate_model(float_net(dense, IMAGE)), "save .*quantize_apply",
    ),
}  # fmt: skip


@pytest.mark.thinned(5)
@pytest.mark.parametrize("name", FILES)
def test_files(name: str, tmp_path: Path) -> None:
    file, make, reason = FILES[name]
    path = saved(make(), tmp_path / file)
    assert (rows("Files")[name] == "refused") == bool(reason)
    if reason:
        with pytest.raises((ModelError, RunError), match=reason):
            load_model(*files_of(path))
    else:
        lower(load_model(*files_of(path)))

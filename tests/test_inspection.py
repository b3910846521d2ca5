from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import ModelError, RunError, UsageError  # noqa: E402
from keras_quant.graph.cost import GraphCost, cost  # noqa: E402
from keras_quant.inspection import graph_of  # noqa: E402
from keras_quant.keras_files import save_model  # noqa: E402
from keras_quant.scheme import scheme_from_bits, with_overrides  # noqa: E402
from keras_quant.tf import keras  # noqa: E402


def costs(target: object, *bits: str, dataset: str | None = None) -> GraphCost:
    scheme = with_overrides(scheme_from_bits(bits[0]), bits[1:]) if bits else None
    return cost(graph_of(str(target), scheme=scheme, dataset=dataset))


def test_costs_of_a_file_are_those_counted_by_hand(tmp_path: Path) -> None:
    image = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="conv")(image)  # to 4x4x4
    x = keras.layers.DepthwiseConv2D(2, strides=2, name="depth")(x)  # to 2x2x4
    x = keras.layers.Dense(5, name="head")(keras.layers.Flatten()(x))
    save_model(keras.Model(image, x), tmp_path / "model.keras")
    total = costs(tmp_path / "model.keras")
    counted = {n.name: (n.shape, n.parameters, n.macs) for n in total.nodes if n.weight_bits}
    assert counted == {
        "conv": ((4, 4, 4), 3 * 3 * 2 * 4 + 4, 4 * 4 * 72),
        "depth": ((2, 2, 4), 2 * 2 * 4 + 4, 2 * 2 * 16),
        "head": ((5,), 16 * 5 + 5, 80),
    }
    assert (total.parameters, total.macs) == (76 + 20 + 85, 1152 + 64 + 80)
    assert total.float_bytes == total.weight_bytes == 4 * 181
    assert total.bit_operations == 32 * 32 * total.macs


def test_zoo_model_under_a_scheme_is_counted_at_its_bits() -> None:
    total = costs("mlp", "w4a4", "dense2=w2a4")
    layers = {node.name: node for node in total.nodes if node.weight_bits}
    bits = {name: (node.weight_bits, node.activation_bits) for name, node in layers.items()}
    # First and last layer have 8-bit weights; pixels have 8 bits.
    assert bits == {"dense1": (8, 8), "dense2": (2, 4), "logits": (8, 4)}
    assert total.macs == 64 * 128 + 128 * 128 + 128 * 10
    assert total.kernel_bits == 8 * 64 * 128 + 2 * 128 * 128 + 8 * 128 * 10
    assert total.bit_operations == 64 * 8192 + 8 * 16384 + 32 * 1280
    assert layers["dense2"].weight_bytes == 128 * 128 // 4 + 2 * 4 * 128  # codes, scales, biases


def test_zoo_model_gets_the_shape_and_classes_of_a_dataset() -> None:
    assert costs("lenet5", dataset="cifar100").nodes[-1].shape == (100,)
    assert costs("lenet5").nodes[-1].shape == (10,)


def test_float_zoo_model_is_float_throughout() -> None:
    assert {n.weight_bits for n in costs("ds_cnn").nodes if n.weight_bits} == {32}


def test_bits_are_for_models_of_the_zoo(tmp_path: Path) -> None:
    for options in (
        {"scheme": scheme_from_bits("4"), "dataset": None},
        {"scheme": None, "dataset": "digits"},
    ):
        with pytest.raises(UsageError, match="are for models of the zoo"):
            graph_of(str(tmp_path), **options)


@pytest.mark.parametrize(
    ("name", "error", "helpful"),
    [
        ("resnet21", RunError, "no such run, file or zoo model; close names: .*resnet20"),
        ("models", RunError, "not a run folder: it has no run.json"),
        ("model.tflite", ModelError, r"ends with '.tflite'; .keras and .h5 files are loaded"),
    ],
)
def test_target_that_is_nothing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], helpful: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(error, match=helpful):
        graph_of(name, scheme=None, dataset=None)


def test_dataset_that_is_not_known_gets_close_names() -> None:
    with pytest.raises(UsageError, match="dataset 'cifar11' is not known; close names: cifar10"):
        graph_of("mlp", scheme=None, dataset="cifar11")

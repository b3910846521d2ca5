"""Clustered weights stay equal through training, whatever the method, and so do their codes."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.errors import UsageError
from keras_quant.methods import METHODS, load_method
from keras_quant.schemes.scheme import BINARY, QuantSpec
from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods.readers import read_kernel, tuned_variables  # noqa: E402
from keras_quant.model.topology import copy_variables, layers_by_name  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.clusters import (  # noqa: E402
    clustered_kernels,
    describe_clusters,
    keep_clusters,
)
from keras_quant.training.optimizers import make_optimizer  # noqa: E402
from keras_quant.training.sparsity import keep_zeros, pruned_kernels  # noqa: E402

CENTROIDS = np.float32([0.0, -0.9, 0.35, 0.7])
RNG = np.random.default_rng(0)
CLUSTER = RNG.integers(0, 4, (17, 3))  # no whole number of a processor's vectors
CLUSTER[CLUSTER[:, 2] == 1, 2] = 2  # a channel with a smaller largest weight, so of another scale
UPDATES = 5
GRADIENTS = [RNG.normal(0, 1, CLUSTER.shape).astype(np.float32) for _ in range(UPDATES)]
OPTIMIZERS = {
    "adam": OptimizerSettings(name="adam", learning_rate=0.03, weight_decay=0.01),
    "sgd": OptimizerSettings(name="sgd", learning_rate=0.03, weight_decay=0.01),
}
WITHOUT_1_BIT = ("lsq", "tfmot", "nested")
FLOAT32_ROUNDING = 1e-6  # of sums in another order, through a few updates


def dense(kernel: np.ndarray, **settings) -> keras.layers.Layer:
    layer = keras.layers.Dense(kernel.shape[1], name="dense", **settings)
    layer.build((None, kernel.shape[0]))
    layer.set_weights([kernel, np.zeros(kernel.shape[1], np.float32)])
    return layer


def model_of(layer: keras.layers.Layer, method: str | None, spec: QuantSpec) -> keras.Model:
    given = layer
    if method is not None:
        maker = load_method(method).maker
        layer = maker.wrap(given, spec, maker.options())
    x = keras.Input((given.kernel.shape[0],))
    model = keras.Model(x, layer(x))
    if layer is not given:
        copy_variables(given, layer)
    return model


def clustered(method: str | None = None, spec: QuantSpec | None = None, **settings) -> keras.Model:
    return model_of(dense(CENTROIDS[CLUSTER], **settings), method, spec or QuantSpec(bits=8))


def update(
    model: keras.Model, settings: OptimizerSettings, *, zeros: bool = False, accumulate: int = 1
) -> np.ndarray:
    """Moves the kernel by GRADIENTS, holding what is asked for. Returns: what it is then."""
    held, pruned = clustered_kernels(model), pruned_kernels(model)

    def extend(optimizer: keras.optimizers.Optimizer) -> None:
        keep_clusters(optimizer, held)
        if zeros:
            keep_zeros(optimizer, pruned)

    variables = model.trainable_variables
    optimizer = make_optimizer(
        settings,
        variables,
        steps_per_epoch=UPDATES,
        epochs=1,
        tunings=tuned_variables(layers_by_name(model).values()),
        accumulate=accumulate,
        extend=extend,
    )
    (each,) = held
    for gradient in GRADIENTS:
        others = {v._unique_id: tf.ones_like(v) for v in variables}
        given = others | {each.variable._unique_id: tf.constant(gradient)}
        optimizer.apply_gradients([(given[v._unique_id], v) for v in variables])
    return np.asarray(each.variable)


def codes_of(model: keras.Model) -> np.ndarray:
    weight = read_kernel(model.layers[-1])
    assert weight is not None
    return weight.values


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", [None, *METHODS])
def test_a_cluster_is_moved_as_one_weight_by_the_mean_of_its_gradients(
    method: str | None, optimizer: str
) -> None:
    model = clustered(method)
    now = update(model, OPTIMIZERS[optimizer])
    means = [
        np.float32([gradient[k == CLUSTER].mean(dtype=np.float64) for k in range(4)])
        for gradient in GRADIENTS
    ]
    alone = tf.Variable(CENTROIDS, name="kernel")
    oracle = make_optimizer(OPTIMIZERS[optimizer], [alone], steps_per_epoch=UPDATES, epochs=1)
    for gradient in means:
        oracle.apply_gradients([(tf.constant(gradient), alone)])
    np.testing.assert_allclose(now, alone.numpy()[CLUSTER], rtol=0, atol=FLOAT32_ROUNDING)
    firsts = [now[k == CLUSTER][0] for k in range(4)]
    np.testing.assert_array_equal(now, np.float32(firsts)[CLUSTER])
    assert (now != CENTROIDS[CLUSTER]).all()


@pytest.mark.parametrize(
    ("method", "bits"),
    [(method, bits) for method in METHODS for bits in (8, 2)]
    + [(method, 1) for method in METHODS if method not in WITHOUT_1_BIT],
)
def test_a_channel_has_no_more_codes_than_clusters(method: str, bits: int) -> None:
    model = clustered(method, BINARY if bits == 1 else QuantSpec(bits=bits))
    now, codes = update(model, OPTIMIZERS["adam"]), codes_of(model)
    for channel in range(3):
        groups = [codes[CLUSTER[:, channel] == k, channel] for k in range(4)]
        assert all(len(np.unique(group)) <= 1 for group in groups)
    if bits == 8:
        assert len(np.unique(now)) == 4 < len(np.unique(codes))


@pytest.mark.parametrize("method", [name for name in METHODS if name != "bnn"])
def test_a_kernel_of_one_scale_has_no_more_codes_than_clusters(method: str) -> None:
    model = clustered(method, QuantSpec(bits=8, per_channel=False))
    update(model, OPTIMIZERS["adam"])
    codes = codes_of(model)
    assert [len(np.unique(codes[k == CLUSTER])) for k in range(4)] == [1] * 4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_zeros_of_a_clustered_kernel_stay_0_where_that_is_asked(optimizer: str) -> None:
    now = update(clustered("lsq"), OPTIMIZERS[optimizer], zeros=True)
    np.testing.assert_array_equal(now == 0, CLUSTER == 0)
    assert [len(np.unique(now[k == CLUSTER])) for k in range(4)] == [1] * 4


def test_gradients_that_wait_for_an_update_and_constraints_of_channels_leave_clusters_equal() -> (
    None
):
    # Each channel is brought to its own length, by factors that differ.
    model = clustered(kernel_constraint=keras.constraints.UnitNorm(axis=0))
    now = update(model, OPTIMIZERS["sgd"], accumulate=2)
    assert [len(np.unique(now[k == CLUSTER])) for k in range(4)] == [1] * 4
    assert (now[CLUSTER == 1] != CENTROIDS[1]).all()


def test_half_as_many_values_as_weights_make_clusters_and_zeros_do_not_count() -> None:
    def is_clustered(kernel: list[list[float]]) -> bool:
        return bool(clustered_kernels(model_of(dense(np.float32(kernel)), None, BINARY)))

    assert is_clustered([[0.1, 0.2], [0.2, 0.1]])
    assert not is_clustered([[0.1, 0.2], [0.2, 0.3]])
    assert not is_clustered([[0.1, 0.0], [0.0, 0.0]])  # pruned
    assert not is_clustered([[0.0, 0.0], [0.0, 0.0]])


def two_kernels(second: np.ndarray) -> keras.Model:
    """A clustered Dense, a PReLU whose slopes are all 0, and another Dense."""
    layers = [dense(CENTROIDS[CLUSTER]), keras.layers.PReLU(name="slopes")]
    model = keras.Sequential([keras.Input((17,)), *layers, keras.layers.Dense(2, name="head")])
    model.get_layer("head").kernel.assign(second)
    return model


def test_what_is_held_and_what_is_not_is_told_in_numbers() -> None:
    free = np.float32([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    assert describe_clusters(two_kernels(free)) == (
        "holding the clusters of 1 kernel, values of weights: dense 4 of 51; "
        "not clustered: head 5 of 5"
    )
    assert describe_clusters(two_kernels(free > 2)) == (
        "holding the clusters of 2 kernels, values of weights: dense 4 of 51, head 2 of 6"
    )


def test_a_model_without_clusters_is_refused_with_its_kernels_numbers() -> None:
    model = model_of(dense(np.float32([[0, 1, 2], [3, 4, 4]])), None, BINARY)
    with pytest.raises(UsageError, match=r"fewer: dense 4 of 5\. Give a clustered model"):
        describe_clusters(model)

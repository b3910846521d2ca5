"""Widths that are trained as one share their kernels, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import UsageError  # noqa: E402
from keras_quant.graph.cut import cut_codes  # noqa: E402
from keras_quant.methods import load_method  # noqa: E402
from keras_quant.methods.readers import read_kernel, tuned_variables  # noqa: E402
from keras_quant.methods.twins import kernel_codes  # noqa: E402
from keras_quant.model.topology import layers_by_name  # noqa: E402
from keras_quant.prepare import Plan, plan, with_grids, wrap  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.nested import copy_width, join_widths  # noqa: E402

L = keras.layers
NAMES = ("w8a8", "w4a4", "w2a2")
FLOAT32_ROUNDING = 1e-5


def net() -> keras.Model:
    """A batch norm behind a kernel, a layer that is called twice, a bias."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 3), name="image")
    x = L.ReLU(name="relu0")(L.BatchNormalization(name="bn0")(L.Conv2D(4, 3, name="conv0")(x)))
    shared = L.Conv2D(4, 3, padding="same", name="shared")
    x = L.ReLU(name="relu1")(shared(x))
    x = L.ReLU(name="relu2")(shared(x))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, L.Dense(3, name="logits")(x), name="net")


def scaled(planned: Plan) -> Plan:
    """With activations that reach a quarter, so that some are not 0 at 2 bits either."""
    return with_grids(
        planned, {p.group: p.spec.at(2.0 ** -(p.spec.bits + 2)) for p in planned.points}
    )


def widths(method: str = "nested", names: Sequence[str] = NAMES) -> dict[str, keras.Model]:
    source, made = net(), load_method(method)
    plans = {name: scaled(plan(source, scheme_from_bits(name))) for name in names}
    return {name: wrap(each, source, made, unsigned(8, 1 / 255)) for name, each in plans.items()}


def take_steps(joint: keras.Model) -> None:
    """Some steps of gradient descent on random images, without a graph to trace."""
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = tf.constant(rng.uniform(size=(8, 6, 6, 3)), tf.float32)
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(joint(x, training=True))
            total = tf.add_n([tf.reduce_mean((out - 1.0) ** 2) for out in outputs])
        for variable, one in zip(
            joint.trainable_variables, tape.gradient(total, joint.trainable_variables), strict=True
        ):
            variable.assign_sub(0.01 * one if "scale" in variable.name else 0.1 * one)


def gradient(model: keras.Model, variable: tf.Variable) -> np.ndarray:
    """Of the sum of all squared answers."""
    x = tf.constant(np.random.default_rng(2).uniform(size=(4, 6, 6, 3)), tf.float32)
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(out**2) for out in tf.nest.flatten(model(x))])
    return np.array(tape.gradient(total, variable))


Trained = tuple[keras.Model, dict[str, keras.Model]]


def joint_and_own(widths: Callable[[], dict[str, keras.Model]]) -> Trained:
    """A joint model after some steps, and its widths as models of their own."""
    joint = join_widths(widths())
    take_steps(joint)
    own = widths()
    for name, model in own.items():
        copy_width(joint, name, model)
    return joint, own


@pytest.fixture(scope="module")
def trained() -> Trained:
    return joint_and_own(widths)


def test_outputs_are_those_of_the_widths_the_widest_last(trained) -> None:
    joint, own = trained
    x = np.random.default_rng(1).uniform(size=(4, 6, 6, 3)).astype(np.float32)
    for answers, name in zip(joint(x), reversed(NAMES), strict=True):
        np.testing.assert_allclose(answers, own[name](x), atol=FLOAT32_ROUNDING)


def test_kernels_and_their_steps_are_there_once(trained) -> None:
    joint, _ = trained
    names = [v.name.rpartition("/")[2] for v in joint.trainable_variables]
    assert names.count("kernel:0") == names.count("base_scale:0") == 3
    assert names.count("gamma:0") == 3
    assert names.count("bias:0") == 9
    found = [v.name for v, _ in tuned_variables(layers_by_name(joint).values())]
    assert sum("base_scale" in name for name in found) == 3
    assert len({v.ref() for v in joint.weights}) == len(joint.weights)


def test_trained_kernels_are_cut_from_those_of_the_widest(trained) -> None:
    _, own = trained
    widest = layers_by_name(own["w8a8"])
    for name, bits in (("w4a4", 4), ("w2a2", 2)):
        narrow = layers_by_name(own[name])
        base, found = (read_kernel(layers["shared"]) for layers in (widest, narrow))
        qmin, qmax = kernel_codes(bits, narrow_range=bits > 2)
        expected = cut_codes(base.values, bits=bits, qmin=qmin, qmax=qmax)
        np.testing.assert_array_equal(found.values, expected)
        assert len(np.unique(expected)) > 2


def test_norms_are_those_of_each_width(trained) -> None:
    _, own = trained
    gammas = [layers_by_name(model)["bn0"].gamma.numpy() for model in own.values()]
    assert not np.array_equal(gammas[0], gammas[2])


def test_gradient_of_a_kernel_is_the_sum_over_widths(trained) -> None:
    joint, own = trained
    narrowest = joint.get_layer("w2a2")
    shared = gradient(joint, layers_by_name(narrowest)["conv0"].raw_kernel)
    each = [gradient(model, layers_by_name(model)["conv0"].raw_kernel) for model in own.values()]
    np.testing.assert_allclose(shared, sum(each), rtol=1e-4, atol=1e-5)
    assert all(np.abs(one).max() > 0 for one in each)


def test_kernels_of_a_method_that_cannot_share_are_told() -> None:
    with pytest.raises(UsageError, match=r"kernels of conv0, shared, logits cannot be shared"):
        join_widths(widths("qkeras", NAMES[1:2]))

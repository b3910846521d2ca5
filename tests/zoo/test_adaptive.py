"""Positions halt as Figurnov et al. 2017 say, and what is quantized halts likewise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

import keras_quant as kq  # noqa: E402
from keras_quant.model.adaptive import halting_units, with_masks  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.zoo import build, halting  # noqa: E402

FLOAT32_ROUNDING = 1e-6
X = np.random.default_rng(0).random((24, 8, 8, 1), np.float32)


def small(*, tau: float = 0.01, blocks: int = 3) -> keras.Model:
    """A net of which some positions halt at every unit."""
    keras.utils.set_random_seed(0)
    model = build("sact_resnet", (8, 8, 1), 10, blocks=blocks, tau=tau)
    for layer in model.layers:
        if layer.name.endswith("score_conv"):
            kernel, bias = layer.get_weights()
            layer.set_weights([2 * kernel, bias * 0])
    return model


@pytest.fixture(scope="module")
def net() -> keras.Model:
    return small()


def graves(scores: np.ndarray) -> tuple[int, np.ndarray]:
    """N and p_1 to p_L of one position, step by step: Graves 2016, equations 6 to 8.

    Args:
        scores: h_1 to h_{L-1}; the last unit halts whatever its score would be.
    """
    shares, total = np.zeros(len(scores) + 1), 0.0
    for place, score in enumerate(scores):
        if total + score >= 1 - halting.EPSILON:
            break
        shares[place], total = score, total + score
    else:
        place = len(scores)
    shares[place] = 1 - total
    return place + 1, shares


def scores_of(positions: int, count: int) -> np.ndarray:
    """Halting scores, few and many, whose sums are exact and never as near as rounding to 0.99."""
    drawn = np.random.default_rng(1).random((positions, count)) ** 3
    return (np.rint(64 * drawn) / 64).astype(np.float32)


def totals_of(scores: np.ndarray) -> list[tf.Tensor]:
    totals = [tf.constant(scores[:, :1])]
    for column in range(1, scores.shape[1]):
        totals.append(halting.halted_share(totals[-1]) + scores[:, column : column + 1])
    return totals


def test_shares_and_ponder_cost_are_those_of_graves_at_every_position() -> None:
    scores = scores_of(500, 4)
    totals = totals_of(scores)
    halted = [halting.halted_share(total) for total in totals]
    less = [halting.less_halted_share(total) for total in totals]
    shares = [halted[0], *(now + before for now, before in zip(halted[1:], less, strict=False))]
    shares.append(halting.share_left(totals[-1]))
    expected = [graves(row) for row in scores]
    np.testing.assert_allclose(
        np.concatenate(shares, axis=1),
        [found for _, found in expected],
        atol=FLOAT32_ROUNDING,
    )
    costs = halting.ponder_cost(totals).numpy()[:, 0]
    wanted = [units + found[units - 1] for units, found in expected]
    np.testing.assert_allclose(costs, wanted, rtol=FLOAT32_ROUNDING)
    assert {units for units, _ in expected} == {1, 2, 3, 4, 5}


def test_ponder_cost_falls_by_what_scores_in_front_of_the_last_unit_rise() -> None:
    scores = tf.Variable([[0.2, 0.3, 0.9, 0.5]])  # N is 3
    with tf.GradientTape() as tape:
        totals = [scores[:, :1]]
        for column in range(1, 4):
            totals.append(halting.halted_share(totals[-1]) + scores[:, column : column + 1])
        cost = tf.reduce_sum(halting.ponder_cost(totals))
    assert cost.numpy() == pytest.approx(3 + 0.5)
    assert tape.gradient(cost, scores).numpy().tolist() == [[-1, -1, 0, 0]]


def test_the_loss_is_tau_times_the_mean_while_training_alone() -> None:
    layer, totals = halting.PonderCost(0.5), [tf.fill((2, 3, 3, 1), 0.25)]
    features = tf.ones((2, 3, 3, 4))
    assert np.array_equal(layer([features, *totals], training=True), features)
    assert layer.losses[0].numpy() == pytest.approx(0.5 * (2 + 0.75))
    layer([features, *totals], training=False)
    assert layer.losses == []


def test_a_position_that_has_halted_stays_as_it_is(net: keras.Model) -> None:
    named = ("stage2_block1_relu2", "stage2_block2_relu2", "stage2_block2_on")
    outputs = [net.get_layer(name).output for name in named]
    before, after, on = (value.numpy() for value in keras.Model(net.inputs, outputs)(X))
    halted = on[..., 0] == 0
    assert 0 < halted.mean() < 1
    assert np.array_equal(before[halted], after[halted])
    assert not np.array_equal(before[~halted], after[~halted])


@pytest.mark.slow
def test_a_training_with_a_price_raises_halting_scores() -> None:
    def mean_units(tau: float) -> float:
        model = small(tau=tau, blocks=2)
        model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(True))
        model.fit(X, np.arange(len(X)) % 10, epochs=3, verbose=0)
        masks = with_masks(model, halting_units(model))(X)[1:]
        return float(np.mean([mask.mean() for mask in masks]))

    assert mean_units(5.0) < mean_units(0.0)


@pytest.mark.slow
def test_a_net_is_saved_and_loaded_without_trust(net: keras.Model, tmp_path: Path) -> None:
    save_model(net, tmp_path / "net.keras")
    loaded = load_model(tmp_path / "net.keras")
    assert loaded.get_layer("stage1_ponder").tau == 0.01
    assert np.array_equal(loaded(X[:4]), net(X[:4]))
    assert halting_units(loaded) == halting_units(net)


def test_every_unit_but_the_first_of_each_stage_may_be_skipped(net: keras.Model) -> None:
    units = halting_units(net)
    assert [unit.name for unit in units] == [
        f"stage{stage}_block{block}" for stage in (1, 2, 3) for block in (2, 3)
    ]
    assert units[0].at_positions == ("stage1_block2_conv2", "stage1_block2_score_conv")
    assert units[1].at_positions == ("stage1_block3_conv2",)


@pytest.mark.slow
@pytest.mark.parametrize("bits", ["w4a8", "w4a4"])
def test_integer_files_answer_as_the_reference_does(net: keras.Model, bits: str) -> None:
    scheme = kq.scheme_from_bits(bits)
    statistics = kq.collect(kq.plan(net, scheme), net, X)
    quantized = kq.quantize(net, scheme, statistics)
    graph = kq.lower_exactly(quantized).graph
    for name in ("tflite", "onnx"):
        form = kq.FORMATS[name]
        proof = kq.prove(graph, form, form.definition.emit(graph), {graph.inputs[0]: X})
        assert proof.codes_compared > 0 and proof.codes_different == 0
    masks = with_masks(quantized, halting_units(quantized))(X)[1:]
    assert all(set(np.unique(mask)) <= {0.0, 1.0} for mask in masks)
    assert 0 < np.mean([mask.mean() for mask in masks]) < 1

"""Metrics by hand, and beside TensorFlow's own."""

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.model.metrics import (
    Scores,
    cross_entropy,
    mean_divergence,
    metrics_of,
    pixel_surprise,
    psnr,
    squared_error,
    ssim,
    top1,
    top5,
    variance_divergence,
)
from keras_quant.model.tasks import VARIATIONAL

FLOAT32_ROUNDING = 1e-5
LOGITS = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 0.0], [0.0, 1.0, 2.0]], np.float32)


def images(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, np.float32)


def test_the_first_of_equal_outputs_wins() -> None:
    assert top1(LOGITS, np.array([1, 0, 1])).tolist() == [1, 1, 0]
    assert top1(LOGITS, np.array([2, 1, 2])).tolist() == [0, 0, 1]


def test_the_fifth_output_is_among_the_top_five_and_the_sixth_is_not() -> None:
    ramp = np.arange(8, dtype=np.float32)[np.newaxis].repeat(3, axis=0)
    assert top5(ramp, np.array([3, 2, 7])).tolist() == [1, 0, 1]
    assert top5(np.full((1, 8), np.nan), np.array([0])).tolist() == [0]


def test_cross_entropy_takes_logits_and_probabilities() -> None:
    labels = np.array([1, 0, 1])
    powers = np.exp(LOGITS.astype(np.float64))
    shares = powers / powers.sum(axis=1, keepdims=True)
    wanted = -np.log(shares[np.arange(3), labels])
    np.testing.assert_allclose(cross_entropy(LOGITS, labels), wanted, rtol=1e-12)
    np.testing.assert_allclose(cross_entropy(shares, labels), wanted, rtol=1e-12)
    assert np.isfinite(cross_entropy(np.array([[1.0, 0.0]]), np.array([1])))


def test_an_image_given_back_is_perfect() -> None:
    given = images((2, 9, 12, 3), 0)
    assert squared_error(given, given).tolist() == [0, 0]
    assert psnr(given, given, span=1.0).tolist() == [np.inf, np.inf]
    np.testing.assert_allclose(ssim(given, given, span=1.0), 1, rtol=1e-12)


def test_the_divergence_of_a_normal_posterior_is_its_integral() -> None:
    means, logarithms = np.array([[0.5, -1.0]]), np.array([[-1.0, 0.3]])
    x, width = np.linspace(-15, 15, 30_001, retstep=True)
    expected = 0.0
    for mean, logarithm in zip(means[0], logarithms[0], strict=True):
        density = np.exp(-((x - mean) ** 2) / (2 * np.exp(logarithm)))
        density /= np.sqrt(2 * np.pi * np.exp(logarithm))
        ratio = (x**2 - (x - mean) ** 2 / np.exp(logarithm) - logarithm) / 2
        expected += float((density * ratio).sum() * width)
    found = mean_divergence(means, means) + variance_divergence(logarithms, means)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_pixels_surprise_by_the_logarithm_of_their_probability() -> None:
    targets = np.array([[[[1.0], [0.0]]], [[[0.25], [1.0]]]])
    shares = np.array([[0.9, 0.2], [0.5, 0.6]])
    logits = np.log(shares / (1 - shares))
    expected = [-np.log(0.9) - np.log(0.8), -np.log(0.5) - np.log(0.6)]
    np.testing.assert_allclose(pixel_surprise(logits, targets), expected, rtol=1e-12)
    certain = pixel_surprise(np.array([[1e4, -1e4]]), targets[:1])
    assert certain.tolist() == [0.0]


def test_losses_of_an_autoencoder_are_nats_alone() -> None:
    for task in VARIATIONAL:
        assert list(metrics_of(task, num_classes=10, span=1.0)) == ["loss"]


def test_an_image_may_come_back_as_a_vector() -> None:
    x, y = images((2, 8, 8, 1), 0), images((2, 8, 8, 1), 1)
    for metric in metrics_of("reconstruction", num_classes=2, span=1.0).values():
        np.testing.assert_array_equal(metric(x.reshape(2, 64), y), metric(x, y))


def test_psnr_counts_the_error_beside_the_span() -> None:
    targets = np.zeros((1, 4, 4, 1))
    np.testing.assert_allclose(psnr(targets + 1, targets, span=10.0), [20.0])
    np.testing.assert_allclose(squared_error(targets + 2, targets), [4.0])


def test_similarity_of_constants_is_the_papers_luminance() -> None:
    """Without any variance only the first factor of eq. 13 is left, with C1 = (0.01 L)**2."""
    x, y = np.full((1, 11, 11, 1), 0.2), np.full((1, 11, 11, 1), 0.6)
    wanted = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(ssim(x, y, span=1.0), [wanted])


@pytest.mark.tensorflow
@pytest.mark.parametrize(("shape", "window"), [((3, 17, 14, 3), 11), ((2, 8, 9, 1), 7)])
@pytest.mark.parametrize("span", [1.0, 255.0])
def test_similarity_is_tensorflows(shape: tuple[int, ...], window: int, span: float) -> None:
    tf = pytest.importorskip("tensorflow")
    x = images(shape, 1)
    y = np.clip(x + 0.2 * images(shape, 2) - 0.1, 0, 1).astype(np.float32)
    wanted = tf.image.ssim(x * span, y * span, span, filter_size=window).numpy()
    found = ssim(x * span, y * span, span=span)
    np.testing.assert_allclose(found, wanted, atol=FLOAT32_ROUNDING)
    wanted = tf.image.psnr(x * span, y * span, span).numpy()
    np.testing.assert_allclose(psnr(x * span, y * span, span=span), wanted, rtol=FLOAT32_ROUNDING)


def test_scores_of_batches_add_up_to_those_of_all_images() -> None:
    rng = np.random.default_rng(0)
    answers = {"cls": rng.random((7, 10)), "back": rng.random((7, 8, 8, 1)), "free": np.ones(7)}
    targets = {"cls": rng.integers(0, 10, 7), "back": rng.random((7, 8, 8, 1))}
    metrics = {
        "cls": metrics_of("classification", num_classes=10, span=1.0),
        "back": metrics_of("reconstruction", num_classes=10, span=1.0),
    }
    parts = [Scores(metrics=metrics), Scores(metrics=metrics)]
    for part, rows in zip(parts, (slice(0, 3), slice(3, 7)), strict=True):
        part.add(*({name: a[rows] for name, a in arrays.items()} for arrays in (answers, targets)))
    parts[0].merge(parts[1])
    means = parts[0].means()
    assert list(means["cls"]) == ["accuracy", "top-5", "loss"]
    assert list(means["back"]) == ["PSNR", "SSIM", "loss"]
    assert means["cls"]["accuracy"] == top1(answers["cls"], targets["cls"]).mean()
    wanted = ssim(answers["back"], targets["back"], span=1.0).mean()
    np.testing.assert_allclose(means["back"]["SSIM"], wanted)


def test_five_of_five_classes_are_no_measure() -> None:
    assert "top-5" not in metrics_of("classification", num_classes=5, span=1.0)


def test_answers_that_are_not_judged_have_no_scores() -> None:
    scores = Scores()
    scores.add({"free": np.ones(7)}, {})
    assert scores.means() == {}

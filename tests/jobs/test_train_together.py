"""Nets joined behind one input answer together as they do apart, and keep their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.jobs.train_together import joined  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.training.loop import LoopSettings, train_epochs  # noqa: E402
from keras_quant.training.optimizer_settings import OptimizerSettings  # noqa: E402
from tests.training.test_loop import dataset, linear  # noqa: E402

FLOAT32_ROUNDING = 1e-5
SETTINGS = TrainSettings(scheme=load_scheme("float"), shrinkage=0.5)


def nets(count: int) -> list[keras.Model]:
    """Each with weights of its own."""
    found = [linear() for _ in range(count)]
    for factor, model in enumerate(found, start=1):
        model.set_weights([factor * weight for weight in model.get_weights()])
    return found


def answers(model: keras.Model) -> list[np.ndarray]:
    found = model(dataset().test.x[:5] / np.float32(255))
    return [one.numpy() for one in (found if isinstance(found, list) else [found])]


def test_fused_nets_answer_with_the_mean_of_their_logits() -> None:
    models = nets(2)
    names = [model.name for model in models]
    (found,) = answers(joined(models, replace(SETTINGS, together="fusion")))
    wanted = np.mean([answers(model)[0] for model in models], axis=0)
    np.testing.assert_allclose(found, wanted, atol=FLOAT32_ROUNDING)
    assert [model.name for model in models] == names


def test_boosted_nets_answer_each_and_with_their_sum() -> None:
    models = nets(3)
    *each, total = answers(joined(models, replace(SETTINGS, together="soft-boosting")))
    own = [answers(model)[0] for model in models]
    np.testing.assert_allclose(each, own, atol=FLOAT32_ROUNDING)
    np.testing.assert_allclose(total, 0.5 * np.sum(own, axis=0), atol=FLOAT32_ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("together", ["fusion", "soft-boosting"])
def test_joined_nets_learn_all_of_them(together: str, tmp_path: Path) -> None:
    models = nets(2)
    before = [model.get_weights()[0] for model in models]
    joint = joined(models, replace(SETTINGS, together=together))
    soft = together == "soft-boosting"
    loop = LoopSettings(
        epochs=4,
        batch_size=16,
        seed=0,
        augment=False,
        optimizer=OptimizerSettings(learning_rate=0.1),
        soft_boosted=0.5 if soft else 0.0,
        loss_weights=(0.0, 0.0, 1.0) if soft else (),
    )
    history = train_epochs(
        *(joint, joint, dataset(), loop),
        folder=tmp_path,
        resume=False,
        progress=Progress(quiet=True),
    )
    assert history[-1].val_loss < history[0].val_loss
    assert all(
        (model.get_weights()[0] != old).any() for model, old in zip(models, before, strict=True)
    )

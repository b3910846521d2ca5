from __future__ import annotations

from dataclasses import dataclass

import pytest

from keras_quant.errors import ModelError
from keras_quant.model.tasks import VARIATIONAL, find_tasks, last_classifier, tasks_of


@dataclass(frozen=True, kw_only=True)
class Asked:
    input_shape: tuple[int, ...] = (4, 4, 3)
    num_classes: int = 10
    elbo: bool = False


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ((10,), "classification"),
        ((4, 4, 3), "reconstruction"),
        ((48,), "reconstruction"),
    ],
)
def test_a_shape_tells_the_task(shape: tuple[int, ...], task: str) -> None:
    assert tasks_of([shape], Asked(), name="net") == (task,)


def test_as_many_classes_as_pixels_are_classes() -> None:
    assert tasks_of([(48,)], Asked(num_classes=48), name="net") == ("classification",)


def test_outputs_that_are_neither_are_all_told() -> None:
    message = r"model net puts out \(7,\), \(None, 4, 3\); the data need \(10,\), .* 48 values"
    with pytest.raises(ModelError, match=message):
        tasks_of([(7,), (10,), (None, 4, 3)], Asked(), name="net")


def test_a_variational_autoencoder_is_told_what_to_ask_for() -> None:
    with pytest.raises(ModelError, match=r"put \+elbo behind the data's name"):
        tasks_of([(2,), (2,), (48,)], Asked(), name="net")
    with pytest.raises(ModelError, match="values again$"):
        tasks_of([(2,), (3,), (48,)], Asked(), name="net")


@pytest.mark.parametrize("latent", [2, 10])
def test_an_elbo_is_asked_of_means_variances_and_pixels(latent: int) -> None:
    shapes = [(latent,), (latent,), (48,)]
    assert tasks_of(shapes, Asked(elbo=True), name="net") == VARIATIONAL


@pytest.mark.parametrize(
    "shapes", [[(48,)], [(10,)], [(2,), (3,), (48,)], [(48,), (2,), (2,)], [(2, 1), (2, 1), (48,)]]
)
def test_an_elbo_of_other_outputs_is_refused(shapes: list[tuple[int, ...]]) -> None:
    assert find_tasks(shapes, Asked(elbo=True)) == (None,) * len(shapes)
    with pytest.raises(ModelError, match="the data need means and logarithms of variances .* 48"):
        tasks_of(shapes, Asked(elbo=True), name="net")


@pytest.mark.parametrize(
    ("shapes", "place"),
    [([(10,), (10,)], 1), ([(10,), (48,)], 0), ([(48,)], None), ([(7,), (10,), (7,)], 1)],
    ids=str,
)
def test_of_several_classifiers_the_last_is_the_models_own(
    shapes: list[tuple[int, ...]], place: int | None
) -> None:
    assert last_classifier(find_tasks(shapes, Asked())) == place

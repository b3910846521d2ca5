from __future__ import annotations

import pytest

from keras_quant.errors import ModelError
from keras_quant.model.tasks import tasks_of


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ((10,), "classification"),
        ((4, 4, 3), "reconstruction"),
        ((48,), "reconstruction"),
    ],
)
def test_a_shape_tells_the_task(shape: tuple[int, ...], task: str) -> None:
    assert tasks_of([shape], (4, 4, 3), 10, name="net") == (task,)


def test_as_many_classes_as_pixels_are_classes() -> None:
    assert tasks_of([(48,)], (4, 4, 3), 48, name="net") == ("classification",)


def test_outputs_that_are_neither_are_all_told() -> None:
    message = r"model net puts out \(7,\), \(None, 4, 3\); the data need \(10,\), .* 48 values"
    with pytest.raises(ModelError, match=message):
        tasks_of([(7,), (10,), (None, 4, 3)], (4, 4, 3), 10, name="net")

from __future__ import annotations

import numpy as np
import pytest

from keras_quant.proof.distance import LOGIT_TOLERANCE, Distance
from keras_quant.proof.parity import FLOAT_CODE_TOLERANCE
from keras_quant.proof.tally import RMS_TOLERANCE, OutputTally, Tally

IMAGES = 1000
EXACT = 0.0


def distance(
    *, top1: int = IMAGES, torn: int = 0, near: int = IMAGES, far_by: float = 0.0
) -> Distance:
    """Of answers whose root mean square is 1."""
    return Distance(
        images=IMAGES,
        ranked=IMAGES,
        top1=top1,
        torn=torn,
        near=near,
        scaled=far_by,
        squares=far_by**2 * IMAGES,
        power=IMAGES,
    )


def tally(reference: Distance, keras: Distance | None = None, *, different: int = 0) -> Tally:
    made = Tally(images=IMAGES)
    made.compared["conv"], made.different["conv"] = 10_000, different
    made.outputs["logits"] = OutputTally(reference=reference, keras=keras)
    return made


def passes(made: Tally, tolerance: float = EXACT, *, judge_keras: bool = True) -> bool:
    return not list(made.problems(tolerance, judge_keras=judge_keras))


@pytest.mark.parametrize(
    ("different", "reference", "passing"),
    [
        (0, distance(), True),
        (1, distance(), False),
        (0, distance(near=999, far_by=3e-5), False),
        (0, distance(top1=999), False),
        (0, distance(top1=999, torn=1), True),
        (0, distance(top1=998, torn=2), False),
        (0, distance(far_by=float("nan")), False),
    ],
)
def test_an_exact_file_answers_as_the_reference_on_every_image(
    different: int, reference: Distance, passing: bool
) -> None:
    assert passes(tally(reference, different=different)) == passing


@pytest.mark.parametrize(
    ("different", "reference", "passing"),
    [
        (10, distance(top1=999, near=999, far_by=0.5), True),
        (11, distance(), False),
        (0, distance(top1=998), False),
        (0, distance(near=0, far_by=RMS_TOLERANCE), True),
        (0, distance(near=998, far_by=2 * RMS_TOLERANCE), False),
        (0, distance(near=0, far_by=float("nan")), False),
    ],
)
def test_a_file_that_may_differ_does_so_on_few_images_or_by_little(
    different: int, reference: Distance, passing: bool
) -> None:
    assert passes(tally(reference, different=different), FLOAT_CODE_TOLERANCE) == passing


@pytest.mark.parametrize(
    ("keras", "passing"),
    [
        (distance(), True),
        (distance(top1=999, near=999, far_by=0.5), True),
        (distance(top1=998), False),
        (distance(near=0, far_by=RMS_TOLERANCE), True),
        (distance(near=0, far_by=2 * RMS_TOLERANCE), False),
    ],
)
def test_keras_may_differ_on_few_images_or_by_little(keras: Distance, passing: bool) -> None:
    made = tally(distance(), keras)
    assert passes(made) == passing
    assert passes(made, judge_keras=False)


@pytest.mark.parametrize(("images", "allowed"), [(1, 1), (500, 1), (1000, 1), (1001, 2)])
def test_a_thousandth_of_the_images_is_rounded_up(images: int, allowed: int) -> None:
    for far in (allowed, allowed + 1):
        keras = Distance(images=images, ranked=images, top1=images - far, near=images - far)
        keras.squares = keras.power = 1.0
        made = Tally(images=images)
        reference = Distance(images=images, ranked=images, top1=images, near=images)
        made.outputs["logits"] = OutputTally(reference=reference, keras=keras)
        assert passes(made) == (far == allowed)


def test_all_that_is_wrong_is_told() -> None:
    made = tally(distance(top1=1, far_by=0.5), distance(top1=2, near=3, far_by=0.5), different=4)
    problems = list(made.problems(EXACT, judge_keras=True))
    assert len(problems) == 5
    for problem, told in zip(
        problems,
        (
            "4 of 10,000 codes differ (a share of 0 is allowed)",
            "output logits is up to 0.5 from the reference's",
            "top-1 of output logits is the reference's on 1 of 1,000 images (all but 0, "
            "where two values tie, are needed)",
            "from that of Keras on 997 of 1,000 images, by a root mean square of 50.00%",
            "top-1 of output logits is that of Keras on 2 of 1,000 images (all but 1 are needed)",
        ),
        strict=True,
    ):
        assert told in problem


def test_batches_add_up() -> None:
    total = Tally()
    for _ in range(2):
        total.merge(tally(distance(top1=990), distance(top1=980), different=3))
    assert (total.images, total.different.total(), total.compared.total()) == (2000, 6, 20_000)
    keras = total.outputs["logits"].keras
    assert keras is not None
    assert (total.outputs["logits"].reference.top1, keras.top1) == (1980, 1960)


def test_a_difference_of_the_tolerance_itself_passes() -> None:
    assert passes(tally(distance(far_by=LOGIT_TOLERANCE)))


def test_outputs_are_compared_with_keras_where_it_has_answered() -> None:
    made, answers = Tally(), {"logits": np.eye(3)}
    made.add_outputs(answers, answers, None)
    assert made.outputs["logits"].keras is None
    for keras in (answers["logits"], answers["logits"][::-1]):
        made.add_outputs(answers, answers, {"logits": keras})
    found = made.outputs["logits"]
    assert found.keras is not None
    assert (found.reference.images, found.reference.top1) == (9, 9)
    assert (found.keras.images, found.keras.top1) == (6, 4)

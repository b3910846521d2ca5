"""Layers are left at 8 bits, worst first, until the model is near enough."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data import Dataset, Split  # noqa: E402
from keras_quant.errors import AccuracyError, UsageError  # noqa: E402
from keras_quant.jobs.limited_drop import as_asked, limit_drop  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.runs.records import QuantizationRecord  # noqa: E402
from keras_quant.schemes.bits import freed, scheme_from_bits, with_overrides  # noqa: E402
from keras_quant.schemes.file import scheme_to_dict  # noqa: E402
from keras_quant.schemes.scheme import Scheme  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from tests.fake_runs import RECORD  # noqa: E402

L = keras.layers
# What each layer adds to the answers of a model that has fewer bits than 8 there.
HARM = {"a": 0.5, "b": 20.0, "c": 3.0}


def source() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((2, 2, 1))
    x = L.Flatten()(x)
    for name in HARM:
        x = L.Dense(4, name=name, kernel_initializer="identity")(x)
    return keras.Model(inputs, x)


def harmed(scheme: Scheme) -> keras.Model:
    """The source, but that the first answer is the larger the fewer bits layers have."""
    model, spoiled = source(), source()
    bits = {name: spec.bits for name, spec in plan(model, scheme).weights.items()}
    harm = sum(amount for name, amount in HARM.items() if bits[name] < 8)
    spoiled.get_layer("c").bias.assign([harm, 0, 0, 0])
    return spoiled


def dataset(*, has_labels: bool = True) -> Dataset:
    """Images of which the brightest of four pixels tells the class, by different distances."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % 4
    x = np.zeros((400, 4), np.uint8)
    x[np.arange(400), y] = rng.integers(1, 255, 400)
    split = Split(x=x.reshape(-1, 2, 2, 1), y=y if has_labels else np.full(400, -1))
    names = ("0", "1", "2", "3") if has_labels else ()
    found = Dataset(
        name="d",
        train=split,
        validation=split,
        test=split,
        class_names=names,
        source="s",
        preprocessing=UNIT,
    )
    return found


SCHEME = freed(with_overrides(scheme_from_bits("w4a8", ends="same"), []))


def limited(most: float, *, has_labels: bool = True):  # noqa: ANN201
    return limit_drop(
        source(),
        SCHEME,
        dataset(has_labels=has_labels),
        most=most,
        fit=harmed,
        sketch=harmed,
        progress=Progress(quiet=True),
    )


@pytest.mark.slow
def test_the_worst_layers_are_lifted_until_little_is_lost() -> None:
    found = limited(60.0)
    assert [lift.layer for lift in found.lifts] == ["b", "c"]
    before, after = [lift.before for lift in found.lifts], [lift.after for lift in found.lifts]
    assert before[0] == 75.0 and before[1] == after[0] and after[1] == found.lost <= 60
    weights = plan(source(), found.scheme).weights
    assert {name: spec.bits for name, spec in weights.items()} == {"a": 4, "b": 8, "c": 8}
    assert found.scheme.name == SCHEME.name + "+lifted"


def test_a_model_that_is_near_enough_stays_as_it_is() -> None:
    found = limited(80.0)
    assert found.lifts == () and found.scheme is SCHEME


@pytest.mark.slow
def test_a_record_tells_what_was_asked_for() -> None:
    found = limited(60.0)
    quantization = QuantizationRecord(
        source="s", method="m", calibrator="c", images=1, seed=0, max_drop=60.0
    )
    begun = dataclasses.replace(RECORD, quantization=quantization, scheme=scheme_to_dict(SCHEME))
    ended = dataclasses.replace(
        begun,
        scheme=scheme_to_dict(found.scheme),
        quantization=dataclasses.replace(quantization, lifts=found.lifts, lost=found.lost),
    )
    assert as_asked(ended) == begun and as_asked(begun) == begun


@pytest.mark.slow
def test_without_labels_other_answers_are_counted() -> None:
    assert limited(0.0, has_labels=False).lost == 0.0
    assert limited(80.0, has_labels=False).lost == 75.0


@pytest.mark.slow
def test_what_8_bits_do_not_mend_is_an_error_with_its_own_exit_code() -> None:
    with pytest.raises(AccuracyError, match="with all layers at 8 bits") as error:
        limit_drop(
            source(),
            SCHEME,
            dataset(),
            most=1.0,
            fit=lambda scheme: harmed(SCHEME),
            sketch=harmed,
            progress=Progress(quiet=True),
        )
    assert error.value.exit_code == 3


def test_images_to_hold_out_and_classes_are_needed() -> None:
    data = dataset()
    nothing = dataclasses.replace(data, validation=Split(x=data.train.x[:0], y=data.train.y[:0]))
    inputs = keras.Input((2, 2, 1))
    picture = keras.Model(inputs, L.Conv2D(1, 1)(inputs))
    quiet = Progress(quiet=True)
    with pytest.raises(UsageError, match="needs validation images"):
        limit_drop(source(), SCHEME, nothing, most=1, fit=harmed, sketch=harmed, progress=quiet)
    with pytest.raises(UsageError, match="one output that tells classes apart"):
        limit_drop(picture, SCHEME, data, most=1, fit=harmed, sketch=harmed, progress=quiet)

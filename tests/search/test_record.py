from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from keras_quant.errors import RunError
from keras_quant.search.harms import HARMS, correlations
from keras_quant.search.record import (
    FILE_NAME,
    Entry,
    Outcome,
    Sensitivity,
    Settings,
    Trace,
    load,
    save,
)


def entry(layer: str, bits: int, loss: float, **changes) -> Entry:
    outcome = Outcome(loss=loss, score=1 - loss, distance=0.1 * loss)
    values = {"output_error": loss / 2, "entropy": bits - 0.5, "squared_error": loss * 3}
    return Entry(layer=layer, bits=bits, outcome=outcome, **(values | changes))


def record(**changes) -> Sensitivity:
    """Two layers at two widths; the second one's Hessian says the contrary of the truth."""
    made = Sensitivity(
        settings=Settings(model="m", dataset="digits", images=100, bits=(2, 8), probes=2),
        layers=("first", "second"),
        metric="accuracy",
        baseline=Outcome(loss=0.1, score=0.9, distance=0.0),
        created="2026-01-01T00:00:00+00:00",
        kq_version="0",
        entries=(
            entry("first", 2, 0.6),
            entry("first", 8, 0.1),
            entry("second", 2, 0.3, entropy=1.0),
            entry("second", 8, 0.2, entropy=7.0),
        ),
        traces={
            "first": Trace(value=4.0, error=0.1, parameters=2),
            "second": Trace(value=1.0, error=0.1, parameters=1),
        },
    )
    return dataclasses.replace(made, **changes)


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    save(record(), tmp_path)
    assert load(tmp_path) == record()
    assert record().is_complete
    assert not record(traces=None).is_complete
    assert not record(entries=record().entries[:3]).is_complete


def test_harms_are_those_of_their_formulas() -> None:
    made = record()
    values = {name: [harm(made, one) for one in made.entries] for name, harm in HARMS.items()}
    assert values["measured"] == pytest.approx([0.5, 0.0, 0.2, 0.1])
    assert values["output-error"] == pytest.approx([0.3, 0.05, 0.15, 0.1])
    assert values["entropy"] == pytest.approx([6.0, 0.0, 6.0, 0.0])
    assert values["hessian"] == pytest.approx([2 * 1.8, 2 * 0.3, 0.9, 0.6])
    unlabelled = dataclasses.replace(
        made.entries[0], outcome=Outcome(loss=None, score=None, distance=0.3)
    )
    assert HARMS["measured"](made, unlabelled) == pytest.approx(0.09)


def test_ranks_are_compared_over_all_and_width_by_width() -> None:
    layers = ("a", "b", "c", "d")
    losses = (0.5, 0.4, 0.3, 0.2)
    errors = (4.0, 3.0, 2.0, 1.0)
    made = record(
        layers=layers,
        settings=dataclasses.replace(record().settings, bits=(2,)),
        traces=dict.fromkeys(layers, Trace(value=1.0, error=0.0, parameters=1)),
        entries=tuple(
            entry(layer, 2, loss, output_error=error, squared_error=-error)
            for layer, loss, error in zip(layers, losses, errors, strict=True)
        ),
    )
    found = {one.harm: one for one in correlations(made)}
    assert set(found) == {"output-error", "entropy", "hessian"}
    assert found["output-error"].overall == pytest.approx(1.0)
    assert found["hessian"].overall == pytest.approx(-1.0)
    assert found["output-error"].by_bits == {2: pytest.approx(1.0)}
    assert found["entropy"].overall is None  # all the same: they rank nothing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 3}, "layers: is 3; a list is needed"),
        ({"entries": [{}]}, r"entries\[0\]\.layer: missing"),
        ({"layers": ["first"]}, "second at 2 bits is none of the layers and bits"),
        ({"format_version": 99}, "written by a newer kq"),
    ],
)
def test_what_is_wrong_with_a_record_is_said_with_its_place(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = save(record(), tmp_path)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=message):
        load(tmp_path)


def test_entries_that_are_there_twice_are_named(tmp_path: Path) -> None:
    save(record(entries=(*record().entries, record().entries[0])), tmp_path)
    with pytest.raises(RunError, match="first at 2 bits is there twice"):
        load(tmp_path)


def test_a_run_that_was_not_measured_says_what_measures_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"has no {FILE_NAME} yet; kq sensitivity .* measures it"):
        load(tmp_path)

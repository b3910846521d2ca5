from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from keras_quant.errors import RunError, UsageError
from keras_quant.runs import records
from keras_quant.runs.index import UNITS, Run, find_runs, read_run, sorted_by, to_csv, where
from keras_quant.runs.records import Figure, QuantizationRecord, RunRecord
from keras_quant.schemes.bits import scheme_from_bits, with_overrides
from keras_quant.schemes.file import load_scheme, scheme_to_dict
from keras_quant.schemes.scheme import FLOAT_BITS
from tests.fake_runs import RECORD, make_run

FIGURES = (
    Figure(name="accuracy", value=90.0, unit="%", split="test", notes="Keras model"),
    Figure(name="accuracy", value=91.0, unit="%", split="test", notes="float model"),
    Figure(name="size", value=4000, unit="bytes", notes="float TFLite file"),
    Figure(name="logical size", value=800, unit="bits", notes="kernels at the scheme's widths"),
    Figure(name="MACs", value=7, notes="one image"),
    Figure(name="accuracy", value=89.0, unit="%", split="test", notes="ONNX file"),
    Figure(
        name="top-1 agreement", value=100.0, unit="%", split="test", notes="float and quantized"
    ),
    Figure(name="top-1 agreement", value=99.0, unit="%", split="test", notes="Keras and ONNX"),
    Figure(name="size", value=1000, unit="bytes", notes="integer ONNX file"),
)
Maker = Callable[..., Run]


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Makes a run's folder whose record has some fields changed, and reads it."""

    def run(name: str, **changes: object) -> Run:
        record = dataclasses.replace(RECORD, scheme=uniform("w4a8"), figures=FIGURES)
        folder = make_run(tmp_path / name)
        records.save(dataclasses.replace(record, **changes), folder)
        return read_run(folder)

    return run


def uniform(bits: str) -> dict[str, object]:
    return scheme_to_dict(scheme_from_bits(bits))


def post_training() -> dict[str, object]:
    quantization = QuantizationRecord(
        source="x", method="qkeras", calibrator="minmax", images=1, seed=3
    )
    return {"training": None, "quantization": quantization}


def test_figures_are_those_of_the_exported_file(make: Maker) -> None:
    run = make("run")
    assert (run.metric, run.score, run.judged) == ("accuracy", 89.0, "ONNX file")
    assert (run.agreement, run.size_bytes, run.logical_bytes, run.macs) == (99.0, 1000, 100.0, 7)
    assert run.bit_operations is None and run.energy_nj is None


def test_a_run_that_is_not_exported_is_judged_by_its_keras_model(make: Maker) -> None:
    run = make("run", figures=FIGURES[:4])
    assert (run.score, run.judged, run.size_bytes) == (90.0, "Keras model", None)
    assert make("bare", figures=()).score is None


def test_of_several_outputs_the_last_is_judged(make: Maker) -> None:
    figures = tuple(
        Figure(
            name="accuracy", value=value, unit="%", split="test", notes=f"{whose}, output {name}"
        )
        for whose in ("Keras model", "TFLite file")
        for name, value in (("exit1_logits", 80.0), ("logits", 90.0))
    )
    run = make("run", figures=figures)
    assert (run.metric, run.judged, run.score) == ("accuracy", "TFLite file", 90.0)


def test_psnr_is_the_score_of_what_is_no_classifier(make: Maker) -> None:
    figure = Figure(name="PSNR", value=30.5, unit="dB", split="test", notes="TFLite file")
    run = make("run", figures=(figure,))
    assert (run.metric, run.score) == ("PSNR", 30.5)


def test_the_elbo_is_the_score_of_a_variational_autoencoder_the_higher_the_better(
    make: Maker,
) -> None:
    good, bad = (
        make(name, figures=(Figure(name="negative ELBO", value=value, notes="TFLite file"),))
        for name, value in (("good", 101.5), ("bad", 140.0))
    )
    assert (good.metric, good.score, good.judged) == ("ELBO", -101.5, "TFLite file")
    assert sorted_by([bad, good], "score") == [good, bad]
    assert UNITS[good.metric] == "nats"


@pytest.mark.parametrize(
    ("scheme", "bits"),
    [
        (uniform("w4a8"), (4, 8)),
        (uniform("wta4"), (2, 4)),
        (uniform("w3a3"), (3, 3)),
        (scheme_to_dict(load_scheme("float")), (FLOAT_BITS, FLOAT_BITS)),
        (scheme_to_dict(with_overrides(scheme_from_bits("4"), ["conv1=w8a8"])), (None, None)),
        ({}, (None, None)),
    ],
)
def test_usual_bits_are_those_of_the_rule_for_all_layers(
    make: Maker, scheme: dict[str, object], bits: tuple[int | None, int | None]
) -> None:
    run = make("run", scheme=scheme)
    assert (run.weight_bits, run.activation_bits) == bits
    assert run.is_float == (bits == (FLOAT_BITS, FLOAT_BITS))


def test_runs_are_found_in_folders_and_once_each(make: Maker, tmp_path: Path) -> None:
    make("b"), make("a", **post_training())
    (tmp_path / "logs").mkdir()
    found = find_runs([tmp_path / "b", tmp_path])
    assert [(run.name, run.method) for run in found.runs] == [("b", "qkeras"), ("a", "ptq")]
    assert found.problems == ()


def test_a_damaged_record_is_named_and_the_others_are_found(make: Maker, tmp_path: Path) -> None:
    make("a"), make("b")
    (tmp_path / "a" / records.FILE_NAME).write_text("{")
    found = find_runs([tmp_path])
    assert [run.name for run in found.runs] == ["b"]
    assert len(found.problems) == 1 and str(tmp_path / "a") in found.problems[0]


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="neither a run nor a folder of runs"):
        find_runs([tmp_path])
    with pytest.raises(RunError, match="no such folder"):
        find_runs([tmp_path / "gone"])


def test_conditions_all_hold(make: Maker) -> None:
    runs = [make("a"), make("b", **post_training()), make("c", scheme=uniform("w8a8"))]
    assert [run.name for run in where(runs, {"method": "qkeras", "scheme": "w8a8"})] == ["c"]
    assert [run.name for run in where(runs, {"seed": "3"})] == ["b"]
    assert where(runs, {}) == runs
    with pytest.raises(UsageError, match="--where methd.*close names: method"):
        where(runs, {"methd": "x"})


def test_numbers_are_sorted_downwards_words_upwards_and_none_comes_last(make: Maker) -> None:
    def scored(value: float) -> tuple[Figure, ...]:
        return (dataclasses.replace(FIGURES[5], value=value),)

    runs = [
        *(make("b", figures=scored(1.0)), make("c", figures=())),
        *(make("a", figures=scored(7.0)), make("d", figures=scored(0.0))),
    ]
    assert [run.name for run in sorted_by(runs, "score")] == ["a", "b", "d", "c"]
    assert [run.name for run in sorted_by(runs, "name")] == ["a", "b", "c", "d"]
    with pytest.raises(UsageError, match="--sort scor:.*close names: score"):
        sorted_by(runs, "scor")


def test_csv_holds_a_line_a_run(make: Maker) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([make('a "b", c'), make("d", figures=())]))))
    assert [row["name"] for row in rows] == ['a "b", c', "d"]
    assert float(rows[0]["score"]) == 89.0 and rows[1]["score"] == ""
    assert rows[0]["size_bytes"] == "1000" and rows[0]["weight_bits"] == "4"


def test_records_of_any_status_are_read(make: Maker) -> None:
    record: RunRecord = make("run", status="training", figures=()).record
    assert record.status == "training"

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from keras_quant.errors import UsageError
from keras_quant.files import write_bytes, write_json
from keras_quant.proof.record import digest
from keras_quant.report.content import Report, gather
from keras_quant.report.table import Table
from keras_quant.runs import records
from keras_quant.runs.index import Run, read_run
from keras_quant.runs.records import Figure, RunRecord, TrainingRecord
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.file import load_scheme, scheme_to_dict
from tests.fake_runs import RECORD, make_run


def make(path: Path, bits: str, *, accuracy: float, size: int, **changes: object) -> Run:
    """A run with a figure of each kind."""
    scheme = load_scheme("float") if bits == "float" else scheme_from_bits(bits)
    figures = (
        Figure(name="accuracy", value=accuracy, unit="%", split="test", notes="TFLite file"),
        Figure(name="size", value=size, unit="bytes", notes="integer TFLite file"),
        Figure(name="bit operations", value=5e6, notes="one image"),
    )
    record: RunRecord = dataclasses.replace(
        RECORD,
        scheme=scheme_to_dict(scheme),
        figures=figures,
        training=TrainingRecord(
            method="float" if bits == "float" else "lsq", seed=0, epochs=1, batch_size=1
        ),
        **changes,
    )
    records.save(record, make_run(path))
    return read_run(path)


def prove(run: Run, *, passed: bool, content: bytes = b"file") -> None:
    """Leaves an exported file, and a record that says whether it passed."""
    write_bytes(run.path / "export" / "model.tflite", content)
    proof = {
        "file": "model.tflite",
        "sha256": digest(b"file"),
        "passed": passed,
        "codes_different": 0 if passed else 7,
        "codes_compared": 1000,
        "images": 10,
        "kernels": ["XNNPACK"],
    }
    write_json(run.path / "export" / "parity.json", {"tflite": proof})


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [
        make(tmp_path / "float", "float", accuracy=92.0, size=4000),
        make(tmp_path / "wide", "8", accuracy=92.4, size=1000),
        make(tmp_path / "good", "4", accuracy=91.6, size=600),
        make(tmp_path / "narrow", "2", accuracy=80.0, size=400),
    ]


def texts(table: Table, column: str) -> list[str]:
    place = table.columns.index(column)
    return [row[place].text for row in table.rows]


def report(runs: list[Run]) -> Report:
    return gather(runs, title="runs")


def test_summary_names_the_smallest_that_is_as_good_as_float(runs: list[Run]) -> None:
    assert report(runs).summary == (
        "good (lsq, w4a4) reaches 91.60 % on the test images of digits in 0.6 kB; float reaches "
        "92.00 % in 4.0 kB.",
    )
    assert report([runs[0], runs[3]]).summary[0].startswith("narrow (lsq, w2a2) reaches 80.00 %")
    assert report(runs[1:]).summary == ("wide (lsq, w8a8) is the best, with 92.40 %.",)


def test_summary_counts_what_is_proven(runs: list[Run]) -> None:
    prove(runs[1], passed=True)
    prove(runs[2], passed=False)
    prove(runs[3], passed=True, content=b"another")
    assert report(runs).summary[1].startswith("1 of 3 exported files are proven")
    proofs = report(runs).proofs
    assert texts(proofs, "run") == ["wide", "good", "narrow"]
    assert texts(proofs, "verdict") == ["proven", "failed", "another file"]
    assert texts(proofs, "codes that differ") == ["0", "7", "0"]
    assert texts(proofs, "of") == ["1,000"] * 3


def test_figures_are_shown_in_their_units_and_missing_ones_are_empty(runs: list[Run]) -> None:
    table = report(runs).runs
    assert texts(table, "accuracy [%]") == ["92.00", "92.40", "91.60", "80.00"]
    assert texts(table, "file [kB]") == ["4.0", "1.0", "0.6", "0.4"]
    assert texts(table, "bit operations [M]") == ["5.0"] * 4
    assert texts(table, "agreement [%]") == [""] * 4
    assert texts(table, "Pareto") == ["", "front", "front", "front"]


def test_what_cannot_be_drawn_is_left_out(runs: list[Run]) -> None:
    names = [picture.name for picture in report(runs).pictures]
    assert names == ["accuracy-bits", "accuracy-size", "accuracy-bitops"]


def test_versions_say_which_runs_they_are_of(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / name, "4", accuracy=1.0, size=1, versions={"numpy": version, "qkeras": "1"})
        for name, version in (("a", "2.0"), ("b", "2.1"))
    ]
    rows = {tuple(cell.text for cell in row) for row in report(runs).machines.rows}
    assert {("numpy", "2.0", "a"), ("numpy", "2.1", "b"), ("qkeras", "1", "all")} <= rows


def test_commands_are_quoted_as_a_shell_reads_them(tmp_path: Path) -> None:
    command = ("kq", "train", "--name", "a b", "--set", "conv*=w8a8")
    run = make(tmp_path / "a b", "4", accuracy=1.0, size=1, command=command)
    assert report([run]).commands == (("a b", "kq train --name 'a b' --set 'conv*=w8a8'"),)


@pytest.mark.parametrize("program", ["/home/me/venv/bin/kq", "/home/me/keras_quant/__main__.py"])
def test_commands_do_not_say_where_a_program_lay(program: str, tmp_path: Path) -> None:
    run = make(tmp_path / "a", "4", accuracy=1.0, size=1, command=(program, "train"))
    assert report([run]).commands == (("a", "kq train"),)


def test_runs_of_two_datasets_are_refused(runs: list[Run], tmp_path: Path) -> None:
    other = dataclasses.replace(RECORD.dataset, name="cifar10")
    runs.append(make(tmp_path / "other", "4", accuracy=1.0, size=1, dataset=other))
    with pytest.raises(UsageError, match="different datasets"):
        report(runs)

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.runs import records
from keras_quant.runs.lock import locked
from keras_quant.runs.records import Figure, TrainingRecord
from keras_quant.schemes.bits import scheme_from_bits
from keras_quant.schemes.file import scheme_to_dict
from tests.fake_runs import RECORD, make_run

DONE, FAILED, USAGE = 0, 1, 2


def kq(*arguments: object, given: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two runs that differ in their bits, epochs and accuracy."""
    for name, bits, accuracy in (("narrow", "2", 80.0), ("wide", "8", 92.5)):
        figures = (
            Figure(name="accuracy", value=accuracy, unit="%", split="test", notes="TFLite file"),
            Figure(name="size", value=1000 * int(bits), unit="bytes", notes="integer TFLite file"),
        )
        record = dataclasses.replace(
            RECORD,
            scheme=scheme_to_dict(scheme_from_bits(bits)),
            figures=figures,
            training=TrainingRecord(method="qkeras", seed=0, epochs=int(bits), batch_size=1),
        )
        records.save(record, make_run(tmp_path / name))
    return tmp_path


def test_runs_are_listed_with_their_figures(models: Path) -> None:
    found = kq("runs", "list", models, "--sort", "score")
    assert found.exit_code == DONE
    heading, first, second = found.stdout.splitlines()
    assert heading.split()[:6] == ["run", "model", "dataset", "method", "scheme", "status"]
    assert first.split()[:8] == [
        *("wide", "mlp", "digits", "qkeras", "w8a8", "exported", "92.50%", "-")
    ]
    assert second.split()[0] == "narrow" and "2.0" in second.split()


def test_conditions_and_files(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    found = kq("runs", "list", models, "--where", "scheme=w2a2", "--json", "--csv", path)
    (run,) = json.loads(found.stdout)
    assert run["score"] == 80.0 and run["record"]["training"]["epochs"] == 2
    (row,) = csv.DictReader(path.open())
    assert row["name"] == "narrow"


def test_a_damaged_record_is_noted_and_the_rest_is_listed(models: Path) -> None:
    (models / "wide" / records.FILE_NAME).write_text("[]")
    found = kq("runs", "list", models)
    assert found.exit_code == DONE and len(found.stdout.splitlines()) == 2
    assert f"left out: {models / 'wide'}" in found.stderr


@pytest.mark.parametrize("value", ["1e308", "NaN", "Infinity", "-1.0"])
@pytest.mark.parametrize("command", ["plot accuracy-bits", "plot accuracy-size", "report"])
def test_a_figure_that_cannot_be_is_told_and_no_picture_drawn(
    models: Path, command: str, value: str
) -> None:
    file = models / "wide" / records.FILE_NAME
    file.write_text(file.read_text().replace("92.5", value))
    done = kq(*command.split(), models / "wide", "--out", models / "out.png")
    assert done.exit_code == FAILED and isinstance(done.exception, SystemExit)
    assert f"{file}: figures[0].value: accuracy (TFLite file) is " in done.stderr
    assert "; 0 to 100 % are allowed" in done.stderr and "no run is left to " in done.stderr
    assert not (models / "out.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("list", "gone"), FAILED, "gone: no such folder"),
        (("list", "{models}/wide/run.json"), FAILED, "run.json: is a file; give runs, or a"),
        (("list", "{models}", "--where", "bits"), USAGE, "write NAME=VALUE"),
        (("list", "{models}", "--where", "bits=4"), USAGE, "chosen by model, dataset"),
        (("compare", "{models}/wide"), USAGE, "runs found: 1; give two or more"),
        (("delete", "{models}", "--yes"), FAILED, "nothing was deleted"),
    ],
)
def test_mistakes_are_explained(
    arguments: tuple[str, ...], code: int, told: str, models: Path
) -> None:
    found = kq("runs", *(argument.format(models=models) for argument in arguments))
    assert found.exit_code == code and told in found.stderr
    assert (models / "wide" / records.FILE_NAME).exists()


def test_compare_shows_what_differs(models: Path) -> None:
    found = kq("runs", "compare", models / "narrow", models / "wide", "--json")
    differences = json.loads(found.stdout)["differences"]
    assert differences["accuracy, TFLite file"] == ["80 %", "92.5 %"]
    assert differences["training.epochs"] == [2, 8]
    assert "training.method" not in differences
    assert "training.epochs" in kq("runs", "compare", models).stdout


def test_delete_asks_and_removes_the_whole_folder(models: Path) -> None:
    assert kq("runs", "delete", models / "wide", given="n\n").exit_code == FAILED
    assert (models / "wide").exists()
    assert kq("runs", "delete", models / "wide", given="y\n").exit_code == DONE
    assert [path.name for path in models.iterdir()] == ["narrow"]


def test_a_run_that_is_named_twice_is_deleted_once(models: Path) -> None:
    wide = models / "wide"
    assert kq("runs", "delete", wide, wide, "--yes").exit_code == DONE
    assert not wide.exists()


def test_a_run_that_is_being_made_is_not_deleted(models: Path) -> None:
    with locked(models / "wide"):
        found = kq("runs", "delete", models / "wide", "--yes")
    assert found.exit_code == FAILED and "works on it" in found.stderr
    assert (models / "wide" / "model.keras").exists()


def test_runs_are_drawn(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "bits.svg"
    found = kq("plot", "accuracy-bits", models, "--out", path)
    assert found.exit_code == DONE and f"drew 2 runs: {path}" in found.stderr
    assert "w8a8" in path.read_text() or path.read_text().startswith("<?xml")
    found = kq("plot", "accuracy-size", models, "--where", "scheme=w1a1", "--out", path)
    assert found.exit_code == FAILED and "no run is left to draw" in found.stderr


def test_runs_are_reported_on_one_page(models: Path, tmp_path: Path) -> None:
    (models / "wide" / records.FILE_NAME).write_text("{")
    found = kq("report", models, "--out", tmp_path / "page", "--title", "Two runs")
    assert found.exit_code == DONE and "index.html: 1 runs" in found.stderr
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<h1>Two runs</h1>" in page and "Left out: " in page
    found = kq("report", models, "--where", "seed=5")
    assert found.exit_code == FAILED and "no run is left to report" in found.stderr

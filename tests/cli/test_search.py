"""`kq sensitivity` and `kq search` as a user calls them, and the picture of what they measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.schemes.file import load_scheme  # noqa: E402
from tests.jobs.test_sensitivity import make_float_run  # noqa: E402

DONE, USAGE, GATE = 0, 2, 3


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_float_run(tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def measured(run: Path) -> Result:
    return kq("sensitivity", run, "--bits", "8,2", "--images", 30, "--probes", 2)


def test_the_table_has_a_line_a_layer_and_the_ranks(measured: Result) -> None:
    assert measured.exit_code == DONE, measured.stderr
    lines = [line.split() for line in measured.stdout.splitlines() if line]
    assert [line[0] for line in lines if line[0] in ("(float)", "conv", "second", "logits")] == [
        *("(float)", "conv", "second", "logits")
    ]
    assert "mean Hessian trace" in measured.stdout and "rank correlation" in measured.stdout
    assert [line[0] for line in lines[-3:]] == ["output-error", "entropy", "hessian"]
    assert "measuring 3 layers at 2 widths on 30 validation images" in measured.stderr
    assert "(2/6, " in measured.stderr and "s left)" in measured.stderr


def test_it_is_measured_once_and_then_shown(run: Path, measured: Result) -> None:
    given = ("sensitivity", run, "--bits", "2,8", "--images", 30, "--probes", 2)
    assert kq(*given).exit_code == 1
    again = kq(*given, "--resume")
    assert again.stdout == measured.stdout
    found = json.loads(kq(*given, "--resume", "--json").stdout)
    assert len(found["record"]["entries"]) == 6 and len(found["correlations"]) == 3


def test_the_search_writes_a_scheme_and_says_what_it_costs(run: Path, measured: Result) -> None:
    result = kq("search", run, "--budget", "size=0.6")
    assert result.exit_code == DONE, result.stderr
    scheme = load_scheme(str(run / "mixed-size=0.6.yaml"))
    chosen = {rule.match: rule.weight.bits for rule in scheme.rules if rule.match in "conv second"}
    rows = [line.split() for line in result.stdout.splitlines()]
    assert {row[0]: int(row[1]) for row in rows if row and row[0] in chosen} == chosen
    assert "accuracy, predicted (float: " in result.stdout
    assert f"kq quantize {run} --scheme" in result.stderr


def test_json_holds_what_the_tables_do(run: Path, measured: Result, tmp_path: Path) -> None:
    out = tmp_path / "mixed.yaml"
    result = kq("search", run, "--budget", "size=0.6", "--out", out, "--json")
    found = json.loads(result.stdout)
    assert found["scheme"] == str(out) and out.is_file()
    assert set(found["bits"]) == {"conv", "second", "logits"}
    assert found["spent"][0]["value"] <= found["spent"][0]["most"]


def test_a_file_that_is_there_is_kept(run: Path, measured: Result, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("mine")
    result = kq("search", run, "--budget", "size=0.6", "--out", notes)
    assert result.exit_code == 2 and f"{notes} exists: give --overwrite" in result.stderr
    assert notes.read_text() == "mine"
    assert kq("search", run, "--budget", "size=0.6", "--out", notes, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ((), USAGE, "give a --budget, as size=0.5"),
        (("--budget", "size=10B"), GATE, "the smallest reachable with 2, 8 bits is"),
        (("--budget", "size=0.6", "--by", "hesian"), USAGE, "close names: hessian"),
        (("--budget", "size=0.6", "--min-accuracy", "high"), USAGE, "write 0.91 or 91%"),
        (("--budget", "size=0.6", "--min-accuracy", "nan"), USAGE, "write 0.91 or 91%"),
        (("--budget", "size=0.6", "--trials", "3"), USAGE, "--trials is for --engine autoqkeras"),
        (
            ("--budget", "size=0.6", "--engine", "autoqkeras", "--by", "entropy"),
            *(USAGE, "--by is for --engine milp; this is autoqkeras"),
        ),
        (("--budget", "size=0.6", "--latency", "x"), USAGE, "write BITS=FILE"),
        (("--budget", "size=0.6", "--bits", "2-4"), USAGE, "write widths as in 2,3,4,8"),
        (("--budget", "size=0.6", "--budget", "size=1"), USAGE, "size is there twice"),
    ],
)
def test_what_cannot_be_says_what_can(
    options: tuple[str, ...], code: int, message: str, run: Path, measured: Result
) -> None:
    result = kq("search", run, *options)
    assert result.exit_code == code
    assert message in result.stderr and "Traceback" not in result.stderr


def test_the_map_is_drawn_of_the_record(run: Path, measured: Result, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    result = kq("plot", "sensitivity", run, "--out", picture)
    assert result.exit_code == DONE, result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")

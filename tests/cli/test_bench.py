"""`kq bench`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keras_quant.bench import records
from keras_quant.cli.main import main
from keras_quant.jobs import bench as job
from tests.bench.test_records import a_record
from tests.fake_runs import make_run
from tests.jobs.test_bench import compared


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the job was asked for; it finds that the last of three files is slower by a tenth."""
    kept: dict[str, Any] = {}

    def measured(paths: Any, settings: Any, **more: Any) -> records.BenchRecord:
        kept.update(more, paths=paths, settings=settings)
        return compared(1.0, 1.0, 1.1)

    monkeypatch.setattr(job, "bench", measured)
    return kept


def test_verdicts_are_told_in_words(asked: dict[str, Any]) -> None:
    result = kq("bench", "a.tflite", "b.tflite")
    assert result.exit_code == 0, result.output
    assert "no difference: b.tflite takes 1.000 times (1.000 to 1.000) the time of a.tflite" in (
        result.stdout
    )
    assert "c.tflite is slower than a.tflite: it takes 1.100 times" in result.stdout
    assert "no record was written; --output FILE writes one" in result.stderr


def test_options_reach_the_job(asked: dict[str, Any], tmp_path: Path) -> None:
    baseline = tmp_path / "then.json"
    records.save(a_record(), baseline)
    options = ("--runtime", "litert,keras", "--threads", "1,2", "--batch", "1,8", "--loads", "9")
    kq("bench", "a.tflite", *options, "--duration", "2.5", "--baseline", baseline)
    settings = asked["settings"]
    assert settings.input_shapes == {}
    assert settings.runtimes == ("litert", "keras")
    assert (settings.threads, settings.batches) == ((1, 2), (1, 8))
    assert (settings.timing.duration_s, settings.timing.loads) == (2.5, 9)
    assert asked["baseline"] == a_record()


def test_the_record_goes_to_the_run_or_where_it_is_asked_to(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    assert kq("bench", run).exit_code == 0
    assert records.load(run / "bench.json") == compared(1.0, 1.0, 1.1)
    kq("bench", run, "--output", tmp_path / "other.json")
    assert records.load(tmp_path / "other.json") == compared(1.0, 1.0, 1.1)


def test_json_has_no_samples(asked: dict[str, Any]) -> None:
    document = json.loads(kq("bench", "a.tflite", "--json").stdout)
    assert [one["loads"] for one in document["measurements"]] == [[], [], []]
    assert document["measurements"][0]["summary"]["p50_ms"] == 1.05


def test_slower_than_allowed_is_exit_code_3(asked: dict[str, Any]) -> None:
    result = kq("bench", "a.tflite", "b.tflite", "--fail-if-slower", "3%")
    assert result.exit_code == 3
    assert "error: slower than allowed, by more than 0.03 of the time" in result.stderr
    assert "c.tflite is slower than a.tflite" in result.stderr
    assert kq("bench", "a.tflite", "b.tflite", "--fail-if-slower", "20%").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "helpful"),
    [
        (["--fail-if-slower", "3"], "'3' is no share; write 3%"),
        (["--fail-if-slower", "3%"], "give --baseline, or several ARTIFACTs"),
        (["--threads", "0"], "'0' is no list of numbers above 0"),
        (["--batch", "1,x"], "'1,x' is no list of numbers above 0"),
        (["--rebuild"], "--rebuild is for --host USER@BOARD"),
        (["--loads", "5"], "5 is not in the range x>=8"),
    ],
)
def test_bad_argument_is_explained(arguments: list[str], helpful: str) -> None:
    result = kq("bench", "a.tflite", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert helpful in result.stderr


def test_input_shapes_reach_the_job(asked: dict[str, Any]) -> None:
    kq("bench", "a.tflite", "--input-shape", "image=1x8x8x3", "--input-shape", "a=b=2")
    assert asked["settings"].input_shapes == {"image": (1, 8, 8, 3), "a=b": (2,)}


@pytest.mark.parametrize("text", ["image", "=1x2", "image=1x0", "image=1,2", "image=", "3,x"])
def test_what_is_no_input_shape_is_refused(asked: dict[str, Any], text: str) -> None:
    result = kq("bench", "a.tflite", "--input-shape", text)
    assert result.exit_code == 2
    assert "is no shape; write NAME=1x224x224x3" in result.stderr
    assert not asked


def test_a_shape_comes_once(asked: dict[str, Any]) -> None:
    result = kq("bench", "a.tflite", "--input-shape", "a=1x2", "--input-shape", "a=1x3")
    assert result.exit_code == 2
    assert "a comes twice" in result.stderr
    assert not asked

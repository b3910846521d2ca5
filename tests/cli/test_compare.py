"""`kq compare`, as a user calls it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.jobs import compare as job  # noqa: E402
from tests.jobs.test_compare import a_comparison  # noqa: E402


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    def compared(*paths: Any, **more: Any) -> list[job.Comparison]:
        return [a_comparison()]

    monkeypatch.setattr(job, "compare_runs", compared)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [("markdown", job.as_markdown([a_comparison()])), ("csv", job.as_csv([a_comparison()]))],
)
def test_the_layout_is_the_asked_one(layout: str, expected: str) -> None:
    result = kq("compare", "run", "--layout", layout)
    assert (result.exit_code, result.stdout) == (0, f"{expected}\n")
    assert "b.tflite is faster than float: 2.000 times" in result.stderr


def test_json_has_no_samples() -> None:
    (one,) = json.loads(kq("compare", "run", "--json").stdout)
    assert (one["max_error"], one["before"]["loads"]) == (0.0125, [])


def test_another_layout_is_refused() -> None:
    result = kq("compare", "run", "--layout", "html")
    assert result.exit_code == 2
    assert "'html' is not one of 'table', 'markdown', 'csv'" in result.stderr

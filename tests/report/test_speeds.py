"""Measured and estimated latencies stand in tables of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.bench import records as measured
from keras_quant.bench.estimate import records
from keras_quant.report.content import gather
from keras_quant.report.speeds import estimates_table, speeds_table
from keras_quant.report.write import to_html, to_markdown
from keras_quant.runs.index import Run
from tests.bench.estimate.test_records import an_estimate
from tests.bench.test_records import a_measurement, a_record
from tests.report.test_content import make


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """A float run and a quantized one, for which there is an estimate.

    The second takes a half of the time in LiteRT and a third in ONNX Runtime.
    """
    made = [
        make(tmp_path / "float", "float", accuracy=92.0, size=4000),
        make(tmp_path / "wide", "8", accuracy=92.4, size=1000),
    ]
    taken = [
        a_measurement(name, factor, runtime=runtime, file=name)
        for runtime, factors in (("litert", (2, 1)), ("onnxruntime", (9, 3)))
        for run, factor in zip(made, factors, strict=True)
        for name in (f"{run.name}/export/model.{runtime}",)
    ]
    measured.save(a_record(*taken), tmp_path / measured.FILE_NAME)
    records.save(an_estimate(), made[1].path / records.file_name("orin-nano"))
    return made


def test_speed_up_is_over_the_float_run_in_the_same_way(runs: list[Run]) -> None:
    table = speeds_table(runs)
    speed_ups = {(row[0].text, row[2].text): row[4].text for row in table.rows}
    assert speed_ups == {
        ("float", "litert, 1 thread"): "1.00",
        ("float", "onnxruntime, 1 thread"): "1.00",
        ("wide", "litert, 1 thread"): "2.00",
        ("wide", "onnxruntime, 1 thread"): "3.00",
    }
    assert not any("estimate" in column.lower() for column in table.columns)


def test_without_a_float_run_there_is_no_speed_up(runs: list[Run]) -> None:
    assert [row[4].text for row in speeds_table(runs[1:]).rows] == ["", ""]


def test_estimates_have_a_table_that_says_what_they_are(runs: list[Run]) -> None:
    table = estimates_table(runs)
    assert "estimates, nothing was run" in table.title
    assert [row[3].text for row in table.rows] == ["fp32", "fp16", "int8"]
    assert {row[0].text for row in table.rows} == {"wide"}


@pytest.mark.slow
def test_a_page_has_both_where_there_are_some(runs: list[Run]) -> None:
    report = gather(runs, title="t")
    titles = [table.title for table in report.tables]
    assert titles[1] == "Measured latency" and titles[2].startswith("Estimated latency")
    for page in (to_html(report), to_markdown(report)):
        assert "nothing was run on a board" in page
    for path in runs[0].path.parent.rglob("*.json"):
        if path.name.startswith(("bench", "estimate-")):
            path.unlink()
    assert [table.title for table in gather(runs, title="t").tables] == [
        *("Runs", "Proofs", "Versions and machines")
    ]

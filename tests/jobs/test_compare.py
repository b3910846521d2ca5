"""A run's files beside float files: the table, and the way to it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.bench.measure import Settings  # noqa: E402
from keras_quant.errors import RunError  # noqa: E402
from keras_quant.jobs.compare import (  # noqa: E402
    COLUMNS,
    Comparison,
    as_csv,
    as_markdown,
    compare_runs,
    rows_of,
)
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from tests.bench.test_records import a_measurement, a_record  # noqa: E402


def a_comparison() -> Comparison:
    before, after = a_measurement("float", 2, size_bytes=4000), a_measurement("b.tflite")
    return Comparison(
        name="run|1",
        runtime="litert",
        precision="w4a4",
        input_shapes={"image": (1, 8, 8, 1), "more": (1, 3)},
        options={"units": 16, "deep": True},
        max_error=0.0125,
        relative_error=0.5,
        images=10,
        before=before,
        after=after,
        verdict=a_record(before, after).verdicts[0],
    )


# 2.1 and 1.05 ms are the medians of test_records.ROUNDS; so are the means, all loads being alike.
CELLS = [
    *("run|1", "litert", "w4a4", "1x8x8x1, 1x3", "units=16, deep=True", "1.25e-02", "50.00%"),
    *("476", "952", "2.1", "1.05", "2.00", "2.00 to 2.00", "4.0", "0.0"),
]


def test_a_row_says_before_and_after() -> None:
    assert rows_of([a_comparison()]) == [tuple(CELLS)]


def test_csv_is_read_back_as_it_was() -> None:
    assert list(csv.reader(io.StringIO(as_csv([a_comparison()])))) == [list(COLUMNS), CELLS]


def test_markdown_has_as_many_cells_in_each_line() -> None:
    lines = as_markdown([a_comparison()]).splitlines()
    assert {line.count("|") for line in lines} == {len(COLUMNS) + 1}
    assert "run/1" in lines[2]


def test_a_run_without_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        compare_runs([tmp_path / "gone"], Settings(), images=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize")
def test_a_trained_run_is_compared(tmp_path: Path) -> None:
    settings = TrainSettings(
        scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 16}, epochs=1
    )
    train(settings, tmp_path / "run", progress=Progress(quiet=True))
    quick = Settings(duration_s=0.01, loads=2, rounds=2)
    (found,) = compare_runs([tmp_path / "run"], quick, images=20)
    assert (found.runtime, found.precision, found.images) == ("litert", "w4a4", 20)
    assert found.options == {"units": 16}
    assert 0 < found.relative_error < 1
    assert found.before.size_bytes > found.after.size_bytes
    (tmp_path / "run" / "export" / "model.tflite").unlink()
    with pytest.raises(RunError, match="has no exported files; write them: kq export"):
        compare_runs([tmp_path / "run"], quick, images=20)

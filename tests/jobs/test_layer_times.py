from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.errors import UsageError
from keras_quant.jobs.layer_times import read_layer_times
from tests.search.profiles import write_profile

NAMES = {"conv1": "conv1", "relu1": "conv1", "conv10": "conv10", "conv1/point": "conv1/point"}


def test_operators_belong_to_the_layer_with_the_longest_name(tmp_path: Path) -> None:
    times = {"conv1": 4.0, "relu1/scaled": 1.0, "conv10": 7.0, "conv1/point/real_token_3": 9.0}
    file = write_profile(tmp_path / "8.json", times, rest=2.0)
    found = read_layer_times({8: file}, NAMES, (8,))
    assert found is not None
    assert found.by_layer == {
        ("conv1", 8): pytest.approx(0.005),
        ("conv10", 8): pytest.approx(0.007),
        ("conv1/point", 8): pytest.approx(0.009),
    }
    assert found.rest_ms == pytest.approx(0.002)


def test_without_files_there_are_no_times() -> None:
    assert read_layer_times({}, NAMES, (8,)) is None


def test_a_record_without_times_is_refused(tmp_path: Path) -> None:
    from keras_quant.bench import records
    from tests.bench.test_records import a_measurement, a_record

    records.save(a_record(a_measurement(), a_measurement("b")), tmp_path / "8.json")
    with pytest.raises(UsageError, match="no times of operators; kq bench RUN .* --profile"):
        read_layer_times({8: tmp_path / "8.json"}, NAMES, (8,))

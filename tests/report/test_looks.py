from __future__ import annotations

import dataclasses
from pathlib import Path

from keras_quant.explain import record as explained_records
from keras_quant.explain.record import Header
from keras_quant.report.looks import looks_of
from keras_quant.runs.index import read_run
from keras_quant.search import record as sensitivity_records
from tests.explain.explained import explained
from tests.fake_runs import make_run
from tests.search.test_record import record


def test_runs_that_were_looked_at_have_pictures_and_damaged_records_are_named(
    tmp_path: Path,
) -> None:
    measured, seen, damaged, plain = (
        make_run(tmp_path / name) for name in ("measured", "seen", "damaged", "plain")
    )
    sensitivity_records.save(record(), measured)
    explained_records.save(explained(maps=None, header=header_without_maps()), seen)
    (damaged / explained_records.FILE_NAME).write_bytes(b"no record")
    runs = [read_run(path) for path in (measured, seen, damaged, plain)]
    pictures, problems = looks_of(runs)
    assert [picture.name for picture in pictures] == ["sensitivity-measured", "confusion-seen"]
    assert pictures[0].title == "What each layer suffers at few bits: measured"
    (problem,) = problems  # once, though two pictures were to be drawn of it
    assert "damaged/explain.npz: damaged" in problem


def header_without_maps() -> Header:
    return dataclasses.replace(explained().header, layer_names=())

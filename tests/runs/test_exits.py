"""exits.json: what is written is read, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import RunError
from keras_quant.runs import exits
from tests.plots.test_anytime import RECORD


def test_what_is_written_is_read(tmp_path: Path) -> None:
    exits.save(RECORD, tmp_path)
    assert exits.load(tmp_path) == RECORD


def test_a_run_without_one_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no exits\.json\. .*kq anytime thresholds RUN"):
        exits.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule": 3}, "rule: is 3"),
        ({"thresholds": [0.5, 0.5]}, "thresholds: 2 for 2 exits; one less than exits is needed"),
        ({"format_version": 99}, "written by a newer kq"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = exits.save(RECORD, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(RunError, match=message):
        exits.load(tmp_path)

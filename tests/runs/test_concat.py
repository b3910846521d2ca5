"""concat.json: what is written is read, and what is broken is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import RunError
from keras_quant.runs import concat
from keras_quant.runs.concat import ConcatExit, ConcatRecord, LayerRecord
from keras_quant.runs.exits import SplitOutcome

LAYER = LayerRecord(weights=((1.0, 0.5),) * 4, bias=(0.0, -0.25))
PART = SplitOutcome(split="test", images=5, accuracy=1.0, mean_cost=3.0, exit_shares=(0.8, 0.2))
RECORD = ConcatRecord(
    created="2026-01-01T00:00:00+00:00",
    kq_version="1",
    format="tflite",
    files=("a" * 64, "b" * 64),
    images=("left", "right"),
    views=2,
    classes=2,
    learned=15,
    seed=0,
    rule="entropy",
    thresholds=(0.75,),
    cost="MACs",
    accuracy=0.95,
    budget=None,
    validation=PART,
    test=PART,
    exits=tuple(
        ConcatExit(answer=name, cost=1.0, views=(0.5, 0.5), together={"max": 0.5})
        for name in ("exit1_logits", "logits")
    ),
    layers=(LAYER, LAYER),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    concat.save(RECORD, tmp_path)
    assert concat.load(tmp_path) == RECORD


def test_a_run_without_one_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no concat\.json\. .*kq anytime concat .* --view"):
        concat.load(tmp_path)


def layer(**changed: Any) -> dict[str, Any]:
    whole = {"weights": [[1, 0.5]] * 4, "bias": [0, 0]}
    return {"layers": [whole, {**whole, **changed}]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rule": 3}, "rule: is 3"),
        ({"thresholds": []}, "thresholds: 0 for 2 files; one less than files is needed"),
        ({"thresholds": [float("nan")]}, "thresholds: holds what is no finite number"),
        ({"layers": []}, "layers: 0 for 2 files; one a file is needed"),
        ({"views": 0}, "views: 0 of 2 classes; a view or more"),
        ({"classes": 3}, r"layers\[0\]: its weights are no 6 rows of 3"),
        (layer(weights=[[1, 2]] * 3), r"layers\[1\]: its weights are no 4 rows of 2"),
        (layer(weights=[[1, 2]] * 3 + [[1]]), r"layers\[1\]: its weights are no 4 rows of 2"),
        (layer(bias=[1, 2, 3]), r"layers\[1\]: .* with a bias of 2"),
        (layer(bias=[1, float("nan")]), r"layers\[1\]: holds what is no finite float32"),
        (layer(bias=[1, 1e39]), r"layers\[1\]: holds what is no finite float32"),
        (layer(weights=[[1, None]] * 4), r"layers\[1\]\.weights\[0\]\[1\]: is None; a number"),
        ({"format_version": 99}, "written by a newer kq"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = concat.save(RECORD, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(RunError, match=message):
        concat.load(tmp_path)

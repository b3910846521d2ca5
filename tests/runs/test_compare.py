from __future__ import annotations

import dataclasses

from keras_quant.runs.compare import differences
from keras_quant.runs.records import Figure, ModelRecord, TrainingRecord
from tests.fake_runs import RECORD

ACCURACY = Figure(name="accuracy", value=91.25, unit="%", split="test", notes="TFLite file")


def test_what_is_the_same_is_left_out() -> None:
    other = dataclasses.replace(RECORD, created="2027", command=("kq", "x"))
    assert differences([RECORD, other]) == []


def test_figures_come_first_and_what_is_missing_is_none() -> None:
    training = TrainingRecord(method="lsq", seed=0, epochs=9, batch_size=1)
    other = dataclasses.replace(
        RECORD,
        model=ModelRecord(name="mlp", options={"units": 3}),
        training=training,
        figures=(ACCURACY,),
        float_layers=("head",),
    )
    assert differences([RECORD, other, RECORD]) == [
        ("accuracy, TFLite file", [None, "91.25 %", None]),
        ("training.method", ["qkeras", "lsq", "qkeras"]),
        ("training.epochs", [1, 9, 1]),
        ("float_layers", [None, '["head"]', None]),
        ("model.options.units", [None, 3, None]),
    ]

"""Records of kq bench --profile that nobody measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keras_quant.bench import records
from keras_quant.bench.operators import Operator
from tests.bench.test_records import a_measurement, a_record


def write_profile(path: Path, times_us: Mapping[str, float], *, rest: float) -> Path:
    """A record in which each layer takes so long, and all else `rest` microseconds.

    The first layer is two operators, as one that was split.
    """
    operators = []
    for place, (layer, time_us) in enumerate(times_us.items()):
        parts = [(layer, time_us)]
        if place == 0:
            parts = [(layer, time_us / 4), (f"{layer}/rescale", 3 * time_us / 4)]
        operators += [
            Operator(name=name, op="CONV_2D", types="int8 -> int8", time_us=us)
            for name, us in parts
        ]
    operators.append(Operator(name="quantize", op="QUANTIZE", types="", time_us=rest))
    records.save(a_record(a_measurement(operators=tuple(operators)), a_measurement("b")), path)
    return path

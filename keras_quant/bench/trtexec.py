"""What trtexec prints and writes: its log, --exportTimes, --exportProfile.

As printed by printPerformanceReport and exportJSONTrace of samples/common/sampleReporting.cpp in
NVIDIA/TensorRT, from 8.0 to 11. A log of a run that failed, or that was cut short, is refused; what
versions add is passed over.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_quant.bench.engine import CONVERSION, REFORMAT, Engine
from keras_quant.bench.operators import Operator
from keras_quant.errors import ResultsError

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_VERDICT = re.compile(
    r"&&&& (PASSED|FAILED) TensorRT\.trtexec \[TensorRT v(\d+)\](?: \[b\d+\])? # (.*)"
)
_THROUGHPUT = re.compile(rf"\] Throughput: ({_NUMBER}) qps")
_LINE = re.compile(r"\] ([A-Z][\w -]*?): (min = .*)")
_VALUE = re.compile(rf"(min|max|mean|median|percentile\(\d+(?:\.\d+)?%\)) = ({_NUMBER}) ms")
_TOTAL = re.compile(rf"\] Total (Host Walltime|GPU Compute Time): ({_NUMBER}) s")
_TRACE = re.compile(rf"\] Timing trace has (\d+) queries over ({_NUMBER}) s")
_BATCH = re.compile(r"--batch=(\d+)")
_ERROR = re.compile(r"\[E\] (.*)")
_NEEDED = ("Latency", "GPU Compute Time")
_TOLD_ERRORS = 3
_WHY = {
    REFORMAT: "reformat: values change their layout or type",
    CONVERSION: "Q/DQ: it was fused with no layer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The summary of one run.

    Attributes:
        version: of TensorRT: "8.2.1", "10.3.0".
        command: that was run.
        queries_per_s: calls a second. A log of a model with an implicit batch (--batch=N) counts
            images; that is divided out.
        queries: that the times are of; None where the log does not tell.
        walltime_s: of all of them.
        times_ms: by "Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency",
            ...: "min", "max", "mean", "median", and "percentile(99%)", ...
    """

    version: str
    command: str
    queries_per_s: float
    queries: int | None
    walltime_s: float
    times_ms: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Times:
    """What each call took; float64 (calls,), milliseconds.

    Attributes:
        latency: to the GPU, computing, and back.
        compute: of the GPU alone.
    """

    latency: np.ndarray
    compute: np.ndarray


def parse_log(text: str, where: str) -> Log:
    """Reads a log.

    Args:
        where: names it in messages.
    Raises:
        ResultsError: trtexec failed, or did not come to its end, or measured nothing.
    """
    verdict = _VERDICT.search(text)
    if verdict is None:
        raise ResultsError(
            f"{where}: has no line that begins with '&&&& PASSED', with which trtexec ends"
            f"{_errors(text)}. Run it again, and give the whole log"
        )
    if verdict[1] == "FAILED":
        raise ResultsError(f"{where}: trtexec failed{_errors(text)}. Mend that, and run it again")
    times = {
        line[1]: {name: float(value) for name, value in _VALUE.findall(line[2])}
        for line in _LINE.finditer(text)
    }
    totals = {name: float(value) for name, value in _TOTAL.findall(text)}
    throughput = _THROUGHPUT.search(text)
    missing = [name for name in _NEEDED if "mean" not in times.get(name, {})]
    missing += ["Throughput"] * (throughput is None)
    missing += ["Total Host Walltime"] * ("Host Walltime" not in totals)
    if missing or throughput is None:
        raise ResultsError(
            f"{where}: has no performance summary ({', '.join(missing)}); trtexec only built, or "
            "the log was cut. Give the log of a run that measured"
        )
    trace, batch = _TRACE.search(text), _BATCH.search(verdict[3])
    return Log(
        version=_version(verdict[2]),
        command=verdict[3].strip(),
        queries_per_s=float(throughput[1]) / (int(batch[1]) if batch else 1),
        queries=int(trace[1]) if trace else None,
        walltime_s=totals["Host Walltime"],
        times_ms=times,
    )


def parse_times(text: str, where: str, *, queries: int | None = None) -> Times:
    """Reads the file of --exportTimes.

    Args:
        queries: that the log counted; up to 8.2 the file holds the calls of the warm-up before
            them too, which are left out.
    Raises:
        ResultsError: it is broken, or holds fewer than two calls.
    """
    rows = _list(text, where)
    try:
        latency = [float(row["latencyMs"]) for row in rows]
        compute = [float(row["computeMs"]) for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ResultsError(
            f"{where}: each call needs latencyMs and computeMs, numbers. Give the file that "
            "trtexec --exportTimes wrote"
        ) from error
    if queries is not None and len(rows) < queries:
        raise ResultsError(
            f"{where}: holds {len(rows)} calls, and the log tells of {queries}. They are of "
            "different runs"
        )
    kept = slice(len(rows) - queries if queries is not None else 0, None)
    if len(latency[kept]) < 2 or not _are_times((*latency, *compute)) or min(latency[kept]) == 0:
        raise ResultsError(f"{where}: at least two calls, of times above 0, are needed")
    return Times(latency=np.array(latency[kept]), compute=np.array(compute[kept]))


def parse_profile(text: str, where: str) -> tuple[Operator, ...]:
    """Reads the file of --exportProfile: the layers of the engine with their times.

    Raises:
        ResultsError: it is broken.
    """
    rows = [row for row in _list(text, where) if not (isinstance(row, dict) and "count" in row)]
    times = [_time_of(row, where) for row in rows]
    names = [str(row["name"]) for row in rows]
    total = sum(times)
    return tuple(
        Operator(
            name=name,
            op="",
            types="",
            time_us=time * 1e3,
            share=time / total if total else None,
            why=_WHY[REFORMAT] if _is_reformat(name) else "",
        )
        for name, time in zip(names, times, strict=True)
    )


def _time_of(row: Any, where: str) -> float:
    """The time of a layer in milliseconds. Raises: ResultsError: it is no layer with a time."""
    try:
        time = float(row.get("medianMs", row["averageMs"]))  # up to 8.2 there are no medians
        if "name" in row and _are_times([time]):
            return time
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        pass
    given = json.dumps(row)
    raise ResultsError(
        f"{where}: an entry is no layer with a name and a time (averageMs, 0 or more): "
        f"{given[:80]}{'...' if len(given) > 80 else ''}. Give the file that trtexec "
        "--exportProfile wrote"
    )


def with_engine(profile: Sequence[Operator], engine: Engine) -> tuple[Operator, ...]:
    """Adds to a profile what is known of the engine's layers."""
    known = {layer.name: layer for layer in engine.layers}
    return tuple(
        replace(one, op=layer.layer_type, types=layer.types, why=_WHY.get(layer.kind, ""))
        if (layer := known.get(one.name))
        else one
        for one in profile
    )


def _are_times(values: Sequence[float]) -> bool:
    return all(math.isfinite(value) and value >= 0 for value in values)


def _is_reformat(name: str) -> bool:
    return "reformat" in name.lower()


def _version(digits: str) -> str:
    """8201 is 8.2.1; 100300 is 10.3.0: two digits each from 10 on."""
    number = int(digits)
    if number >= 100_000:
        return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 1000}.{number // 100 % 10}.{number % 100}"


def _list(text: str, where: str) -> list[Any]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ResultsError(
            f"{where}: not JSON ({error}). It was cut short, or is another file"
        ) from error
    if not isinstance(rows, list):
        raise ResultsError(
            f"{where}: holds a {type(rows).__name__}; a list is needed, as trtexec --exportTimes "
            "and --exportProfile write it"
        )
    return rows


def _errors(text: str) -> str:
    """The first errors of a log."""
    found = _ERROR.findall(text)[:_TOLD_ERRORS]
    return f": {'; '.join(found)}" if found else ""

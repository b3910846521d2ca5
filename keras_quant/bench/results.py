"""The folder that a bundle's bench.sh leaves, read as a record like those of `kq bench`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.bench.board import (
    WHOLE_BOARD,
    Stats,
    generation,
    mean_power_mw,
    parse_power_mode,
    parse_release,
    parse_tegrastats,
    throttling,
)
from keras_quant.bench.engine import parse_engine
from keras_quant.bench.machine import Machine
from keras_quant.bench.operators import Operator
from keras_quant.bench.records import BenchRecord, Load, Measurement, from_text, to_text
from keras_quant.bench.statistics import summarize
from keras_quant.bench.trtexec import (
    Log,
    parse_log,
    parse_profile,
    parse_times,
    with_engine,
)
from keras_quant.errors import ResultsError
from keras_quant.version import __version__

RESULTS, PARTIAL = "results", "results.partial"
_RUNS = {"throughput": "enqueued", "latency": "latency"}
"""By the name of a run's files, what its samples are; see `records.Measurement.kind`."""

_NEEDED = (
    "manifest.json",
    *(f"{run}{suffix}" for run in _RUNS for suffix in (".log", ".json")),
    *("profile.log", "profile.json"),
)
_BUSY = 0.5
_NAME = re.compile(rf"(.+) (\w+), (?:{'|'.join(_RUNS)})")  # as `_measurement` makes it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """What is needed of a bundle's manifest."""

    model: str
    precision: str
    tensorrt: str
    board: str | None
    inputs: tuple[dict[str, Any], ...]
    sha256: dict[str, str]


def parse_name(name: str) -> tuple[str, str]:
    """The model and the precision of a measurement, of the name that it has in a record.

    Returns: "" for the precision where the name is not one of those.
    """
    found = _NAME.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def read_results(folder: Path, *, command: Sequence[str], created: str) -> BenchRecord:
    """Makes a record of what a board measured.

    Args:
        folder: the bundle's, or that of the results.
        command, created: for the record.
    Raises:
        ResultsError: files are missing or broken, or trtexec failed; all missing ones at once.
    """
    found = _results_of(folder)
    manifest = _manifest(found)
    stats = _stats(found)
    logs = {run: _log(found, run) for run in _RUNS}
    _log(found, "profile")
    operators = _operators(found)
    measurements = [
        _measurement(found, manifest, run, log, folder / "model.onnx", operators=operators)
        for run, log in logs.items()
    ]
    busy = [one for one in stats if one.gpu_load is None or one.gpu_load > _BUSY]
    power = mean_power_mw(busy)
    return BenchRecord(
        command=tuple(command),
        created=created,
        kq_version=__version__,
        machine=_machine(found, manifest, logs["throughput"], power),
        settings={"duration_s": logs["throughput"].walltime_s, "loads": 1, "rounds": 1},
        measurements=tuple(_with_energy(one, power) for one in measurements),
        noise=tuple(
            filter(
                None,
                (
                    throttling(stats),
                    _other_version(manifest, logs["latency"]),
                    _other_board(manifest, _optional(found / "model.txt")),
                ),
            )
        ),
        versions={"tensorrt": logs["throughput"].version},
    )


def _results_of(folder: Path) -> Path:
    found = folder / RESULTS if (folder / RESULTS).is_dir() else folder
    missing = [name for name in _NEEDED if not (found / name).is_file()]
    if not missing:
        return found
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise ResultsError(f"{folder}: {what}; give a bundle, or its folder {RESULTS}")
    if (folder / PARTIAL).is_dir():
        raise ResultsError(
            f"{folder}: holds {PARTIAL}: bench.sh was stopped before its end. Run it again"
        )
    raise ResultsError(
        f"{folder}: lacks {', '.join(missing)}. Give a bundle in which bench.sh has run, or the "
        f"folder {RESULTS} that it left"
    )


def _manifest(found: Path) -> _Manifest:
    path = found / "manifest.json"
    try:
        content = json.loads(_text(path))
        shapes = {one["name"]: tuple(map(int, one["shape"])) for one in content["inputs"]}
        assert shapes
        return _Manifest(
            model=str(content["model"]),
            precision=str(content["precision"]),
            tensorrt=str(content["tensorrt"]),
            board=content["board"],
            inputs=tuple({"name": name, "shape": shape} for name, shape in shapes.items()),
            sha256={str(name): str(value) for name, value in content["sha256"].items()},
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        OverflowError,
        AttributeError,
        AssertionError,
        RecursionError,
    ) as error:
        raise ResultsError(
            f"{path}: not the manifest of a bundle, or damaged. Copy the whole folder again"
        ) from error


def _log(found: Path, run: str) -> Log:
    path = found / f"{run}.log"
    return parse_log(_text(path), str(path))


def _stats(found: Path) -> list[Stats]:
    path = found / "tegrastats.log"
    text = _text(path) if path.is_file() else ""
    return parse_tegrastats(text, str(path)) if text.strip() else []


def _operators(found: Path) -> tuple[Operator, ...]:
    profile = parse_profile(_text(found / "profile.json"), str(found / "profile.json"))
    layers = found / "layers.json"
    return (
        with_engine(profile, parse_engine(_text(layers), str(layers)))
        if layers.is_file()
        else profile
    )


def _measurement(
    found: Path,
    manifest: _Manifest,
    run: str,
    log: Log,
    model: Path,
    *,
    operators: tuple[Operator, ...],
) -> Measurement:
    path = found / f"{run}.json"
    times = parse_times(_text(path), str(path), queries=log.queries)
    milliseconds = times.compute if run == "throughput" else times.latency
    samples = to_text(np.rint(milliseconds * 1e6).astype(np.int64).tolist())
    batch = manifest.inputs[0]["shape"][0]
    return Measurement(
        name=f"{manifest.model} {manifest.precision}, {run}",
        file=str(model),
        size_bytes=model.stat().st_size if model.is_file() else None,
        sha256=manifest.sha256.get("model.onnx", ""),
        runtime="tensorrt",
        threads=0,
        batch=batch,
        kernels=(),
        versions={"tensorrt": log.version},
        input_shapes={one["name"]: one["shape"] for one in manifest.inputs},
        kind=_RUNS[run],
        summary=summarize([[from_text(samples)]]),
        images_per_s=batch * log.queries_per_s,
        loads=(Load(rounds=(samples,)),),
        operators=operators if run == "throughput" else (),
        notes=(
            ("times are those of the GPU computing, without copies; the next batch is waiting",)
            if run == "throughput"
            else ("times are those of the GPU, with copies; one call after the other",)
        ),
    )


def _with_energy(one: Measurement, power: dict[str, float]) -> Measurement:
    """Adds the energy of an image, of a whole board while its GPU was busy."""
    rail = next((rail for rail in WHOLE_BOARD if rail in power), None)
    if rail is None or one.kind != "enqueued":
        return one
    note = f"energy is that of the whole board (rail {rail}), as tegrastats tells it"
    return replace(one, energy_mj=power[rail] / one.images_per_s, notes=(*one.notes, note))


def _machine(found: Path, manifest: _Manifest, log: Log, power: dict[str, float]) -> Machine:
    texts = {
        "model": _optional(found / "model.txt"),
        "power_mode": parse_power_mode(_optional(found / "power_mode.txt")),
        **parse_release(_optional(found / "release.txt")),
        "tensorrt": log.version,
        "made_for": manifest.board or "",
        **{f"{rail}_mw": f"{value:.0f}" for rail, value in power.items()},
    }
    board = {name: text for name, text in texts.items() if text}
    return Machine(environment={"cpu": board.get("model", "unknown board")}, board=board)


def _other_version(manifest: _Manifest, log: Log) -> str:
    """Says where another version of TensorRT ran than the file was written for."""
    meant = manifest.tensorrt.removesuffix(".x")
    if log.version == meant or log.version.startswith(f"{meant}."):
        return ""
    return f"the file was written for TensorRT {manifest.tensorrt}; {log.version} ran it"


def _other_board(manifest: _Manifest, model: str) -> str:
    """Says where a board of another generation ran it than the bundle was made for."""
    meant, ran = generation(manifest.board or ""), generation(model)
    if not meant or not ran or meant == ran:
        return ""
    return f"the bundle was made for {manifest.board}; a {model} ran it"


def _optional(path: Path) -> str:
    return _text(path).strip() if path.is_file() else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read: {error.strerror}") from error

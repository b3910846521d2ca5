"""How long the files of a sweep's runs take, measured in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keras_quant.bench import records as bench_records
from keras_quant.errors import RunError
from keras_quant.jobs.bench import bench
from keras_quant.jobs.candidates import BenchSettings
from keras_quant.runs import RunFolder, records


def measure_latency(folder: Path, *, say: Callable[[str], None]) -> Path:
    """Measures how long the TFLite files of a sweep's runs take, in turn.

    Returns: the record, bench.json in the sweep's folder.
    Raises:
        RunError: no run is exported.
        ModelError: a file cannot be measured.
        FileError: the system refuses.
    """
    files = sorted(RunFolder(path.parent).tflite for path in folder.glob(f"*/{records.FILE_NAME}"))
    exported = [file for file in files if file.is_file()]
    if not exported:
        raise RunError(f"{folder}: has no exported run to measure")
    path = folder / bench_records.FILE_NAME
    bench_records.save(bench(exported, BenchSettings(), say=say), path)
    return path

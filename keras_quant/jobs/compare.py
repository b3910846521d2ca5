"""A run's exported files beside float files of the same model: error, speed, size."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_quant.bench.measure import Candidate, Settings, measure
from keras_quant.bench.records import Measurement
from keras_quant.bench.runtimes import runtime_of
from keras_quant.bench.verdict import Verdict, compare
from keras_quant.data import Dataset
from keras_quant.errors import RunError
from keras_quant.files import write_bytes
from keras_quant.jobs.candidates import candidate
from keras_quant.jobs.loaded import load_file
from keras_quant.jobs.paths import dataset_of
from keras_quant.model.files import load_model
from keras_quant.proof.baseline import BASELINES, without_quantizers
from keras_quant.proof.distance import Distance
from keras_quant.proof.formats import FORMATS
from keras_quant.runs import RunFolder, model_of, records

FLOAT = "float"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One file of a run, beside the float file of its model.

    Attributes:
        name: of the run.
        runtime: that ran both files.
        precision: the name of the run's scheme.
        input_shapes: of one call, by input.
        options: the model was built with.
        max_error: largest difference of an output from the float file's, in its own unit.
        relative_error: root mean square of the differences, as a share of the float answers'.
        images: that these were found on.
        before, after: the float file's measurement, and that of the run's file.
        verdict: of the two.
    """

    name: str
    runtime: str
    precision: str
    input_shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, object]
    max_error: float
    relative_error: float
    images: int
    before: Measurement
    after: Measurement
    verdict: Verdict

    @property
    def speed_up(self) -> float:
        """How many times as fast the run's file is."""
        return 1 / self.verdict.ratio.value


def compare_runs(
    paths: Sequence[Path],
    timing: Settings,
    *,
    images: int,
    trust: bool = False,
    say: Say = lambda text: None,
) -> list[Comparison]:
    """Compares the .tflite and .onnx files of runs with float files of the same models.

    A float file is the run's own Keras model with its quantizers taken out, as TFLiteConverter and
    tf2onnx write it.

    Args:
        images: of the test images, on which answers are compared.
        trust: load a Keras file that holds code.
        say: is told what is measured.
    Raises:
        RunError, ModelError, DataError, LoweringError: a run is broken, or has no files, or its
            quantizers cannot be taken out.
    """
    found: list[Comparison] = []
    for path in paths:
        model = load_model(model_of(path), trust=trust)
        files = _files(path)
        plain, data = without_quantizers(model), dataset_of(path, None)
        for file in files:
            with tempfile.TemporaryDirectory() as folder:
                beside = Path(folder) / f"model.float{file.suffix}"
                write_bytes(beside, BASELINES[file.suffix](plain))
                found.append(_compare(path, file, beside, data, timing, images, say))
    return found


def _files(run: Path) -> list[Path]:
    export = RunFolder(run).export
    files = [export / form.file_name for form in FORMATS.values() if not form.folder]
    there = [file for file in files if file.is_file()]
    if not there:
        raise RunError(
            f"{run}: has no exported files; write them: kq export {run} --to tflite,onnx"
        )
    return there


def _compare(
    run: Path,
    file: Path,
    beside: Path,
    data: Dataset,
    timing: Settings,
    images: int,
    say: Say,
) -> Comparison:
    runtime = runtime_of(file)
    assert runtime is not None
    record = records.load(run)
    after_name = f"{run.name}/{file.name}"
    pair: list[Candidate] = [
        candidate(beside, runtime, name=FLOAT),
        candidate(file, runtime, name=after_name),
    ]
    (before, after), _ = measure(pair, timing, say=say)
    distance = _distance(file, beside, data, images)
    return Comparison(
        name=run.name,
        runtime=runtime,
        precision=str(record.scheme.get("name", "")),
        input_shapes=after.input_shapes,
        options=record.model.options,
        max_error=distance.largest,
        relative_error=distance.relative,
        images=distance.images,
        before=before,
        after=after,
        verdict=compare(after_name, FLOAT, loads=after.samples(), other_loads=before.samples()),
    )


def _distance(file: Path, beside: Path, data: Dataset, images: int) -> Distance:
    """How far a file's answers are from another one's; several outputs count together."""
    asked = data.test.x[:images]
    found, expected = (
        load_file(one, data, trust=False).ask(asked, data.preprocessing) for one in (file, beside)
    )
    total = Distance()
    for mine, floats in zip(found.values(), expected.values(), strict=True):
        one = Distance()
        one.add(mine, floats)
        total.merge(one)
    total.images = len(asked)
    return total


COLUMNS = (
    *("name", "runtime", "precision", "input", "options", "max error", "rms error"),
    *("float images/s", "images/s", "float ms", "ms", "speed-up", "99 %", "float kB", "kB"),
)


def rows_of(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """The cells of a table, a row a file, as COLUMNS names them; times are medians."""
    return [tuple(_cells(one)) for one in comparisons]


def as_markdown(comparisons: Sequence[Comparison]) -> str:
    """The table in Markdown."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows_of(comparisons)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """The table as comma-separated values (RFC 4180, with \\n)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows_of(comparisons))
    return stream.getvalue().removesuffix("\n")


def _cells(one: Comparison) -> Iterator[str]:
    ratio = one.verdict.ratio
    yield from (one.name, one.runtime, one.precision)
    yield ", ".join("x".join(map(str, shape)) for shape in one.input_shapes.values())
    yield ", ".join(f"{key}={value}" for key, value in one.options.items())
    yield from (f"{one.max_error:.2e}", f"{one.relative_error:.2%}")
    yield from (f"{one.before.images_per_s:.0f}", f"{one.after.images_per_s:.0f}")
    yield from (f"{one.before.summary.p50_ms:.4g}", f"{one.after.summary.p50_ms:.4g}")
    yield from (f"{one.speed_up:.2f}", f"{1 / ratio.high:.2f} to {1 / ratio.low:.2f}")
    yield from (_kilobytes(one.before), _kilobytes(one.after))


def _kilobytes(one: Measurement) -> str:
    return "" if one.size_bytes is None else f"{one.size_bytes / 1e3:.1f}"

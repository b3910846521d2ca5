"""A bundle measured on a board, whose answers are compared before anything is recorded."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from keras_quant.bench.records import BenchRecord
from keras_quant.bench.remote import measure_on_board
from keras_quant.bench.remote_processor import BoardProcessor, check_runtimes
from keras_quant.bench.results import read_results
from keras_quant.bench.ssh import parse_host
from keras_quant.emit.bundle import compare
from keras_quant.emit.bundle.make import MANIFEST_NAME, MODEL_NAME
from keras_quant.errors import ParityError, ResultsError, UsageError
from keras_quant.jobs.begin import now
from keras_quant.jobs.bench import bench
from keras_quant.jobs.candidates import BenchSettings

Say = Callable[[str], None]


def bench_on_board(
    bundle: Path, host: str, *, rebuild: bool = False, say: Say = lambda text: None
) -> BenchRecord:
    """Builds and measures a bundle's engine on a board, over SSH.

    Args:
        host: "user@board".
        rebuild: see `measure_on_board`.
        say: is told what is done.
    Raises:
        UsageError: it is no bundle, or no host.
        ResultsError: the board cannot be reached, or a script failed there.
        ParityError: the engine answers otherwise than the model.
    """
    board = parse_host(host)
    if not (bundle / MANIFEST_NAME).is_file() or not (bundle / MODEL_NAME).is_file():
        raise UsageError(
            f"{bundle}: is no bundle; --host takes one, as kq export --to tensorrt writes it: a "
            f"folder with {MODEL_NAME} and {MANIFEST_NAME}"
        )
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder)
        measure_on_board(bundle, board, into, rebuild=rebuild, say=say)
        for name in (MANIFEST_NAME, MODEL_NAME):
            shutil.copyfile(bundle / name, into / name)
        shutil.copytree(bundle / "samples", into / "samples")
        text = _compared(into)
        say(text)
        record = _with_proof(read_results(into, command=sys.argv, created=now()), text)
    machine = replace(record.machine, board={"host": board.name, **record.machine.board})
    measurements = [replace(one, file=str(bundle / MODEL_NAME)) for one in record.measurements]
    return replace(record, machine=machine, measurements=tuple(measurements))


def bench_on_processor(
    paths: Sequence[Path],
    host: str,
    settings: BenchSettings,
    *,
    baseline: BenchRecord | None = None,
    say: Say = lambda text: None,
) -> BenchRecord:
    """Measures files on a board's own processor, over SSH, as `jobs.bench.bench` does here.

    Args:
        host: "user@board".
        settings: with one runtime at least.
    Raises:
        UsageError: it is no host, or no such runtime; or as `jobs.bench.bench`.
        ResultsError: the board cannot be reached, or lacks what is needed.
        ModelError: a file's weights lie in other files; or as `jobs.bench.bench`.
    """
    board = parse_host(host)
    check_runtimes(settings.runtimes)
    say(f"connecting to {board.name}")
    with BoardProcessor(board) as place:
        return bench(paths, settings, baseline=baseline, place=place, say=say)


def import_results(folder: Path, *, say: Say = lambda text: None) -> BenchRecord:
    """Makes a record of what a bundle's scripts left, whose answers are compared where they are.

    Args:
        folder: the bundle's, copied back; or its results alone.
        say: is told what comparing found, or why nothing was compared.
    Raises:
        ResultsError: files are missing or broken, or trtexec failed.
        ParityError: the engine answers otherwise than the model.
    """
    record = read_results(folder, command=sys.argv, created=now())
    if not (folder / "outputs").is_dir() or not (folder / "samples").is_dir():
        say(
            "answers are not compared: give the whole bundle, with its folders samples and outputs "
            "(build.sh leaves the latter)"
        )
        return record
    text = _compared(folder)
    say(text)
    return _with_proof(record, text)


def _with_proof(record: BenchRecord, text: str) -> BenchRecord:
    """Adds what comparing the codes of all layers found."""
    verdicts = [line.strip() for line in text.splitlines() if "EXACT" in line]
    notes = tuple(f"proof on the board: {verdict}" for verdict in verdicts)
    measurements = [replace(one, notes=(*one.notes, *notes)) for one in record.measurements]
    return replace(record, measurements=tuple(measurements))


def _compared(folder: Path) -> str:
    """What compare.py says of the engine's answers to the samples."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            failed = compare.main(str(folder))
    except SystemExit as error:
        raise ResultsError(f"the engine's answers: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ResultsError(f"the engine's answers cannot be read ({error!r})") from error
    if failed:
        raise ParityError(f"nothing was recorded, as its answers are others:\n{text.getvalue()}")
    return text.getvalue().rstrip()

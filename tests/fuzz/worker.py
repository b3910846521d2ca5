"""A process that runs commands of kq, one after the other; `watch` starts and watches it.

    python -m tests.fuzz.worker ORIGINALS SCRATCH

It says READY, reads the name of an input a line, and answers with a line of JSON, see `Answer`.
What commands and libraries print goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
import traceback
import types
from dataclasses import asdict, dataclass
from pathlib import Path

from click.testing import CliRunner

from tests.fuzz.kinds import KINDS, Input, named
from tests.fuzz.originals import DATA_FOLDER

READY = "ready"

_LONGEST = 1_000_000  # characters of output that are told
_FORGOTTEN_AT_ONCE = 10  # inputs: to collect TensorFlow's garbage takes half a second
_RESET_PEAK = "5"  # see proc(5), /proc/[pid]/clear_refs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of an input.

    Attributes:
        exit_code: None where the command raised something that click does not know.
        output: of stdout and stderr together, with the traceback of what was raised.
        seconds: that the command took.
        grown_bytes: by how much this process held more at its peak than before.
        leftovers: files that were being written, and are still there.
    """

    exit_code: int | None
    output: str
    seconds: float
    grown_bytes: int = 0
    leftovers: tuple[str, ...] = ()


def main() -> None:
    """Answers until nobody asks any more."""
    originals, scratch = map(Path, sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _prepare(originals)
    print(READY, file=answers, flush=True)
    for number, line in enumerate(sys.stdin):
        answer = run(named(line.strip()), originals, scratch)
        if number % _FORGOTTEN_AT_ONCE == 0:
            _forget()
        print(json.dumps(asdict(answer)), file=answers, flush=True)


def run(one: Input, originals: Path, scratch: Path) -> Answer:
    """Runs a command of kq in a copy of the undamaged files, one of which is damaged."""
    folder = scratch / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(originals, folder, symlinks=True)
    damage(one, folder)
    os.chdir(folder)
    before = _reset_peak()
    started = time.perf_counter()
    exit_code, output = invoke(one.words)
    seconds = time.perf_counter() - started
    grown = max(0, _held("VmHWM") - before)
    leftovers = tuple(str(path) for path in Path().rglob(".*.tmp-*"))
    return Answer(
        exit_code=exit_code,
        output=output[-_LONGEST:],
        seconds=seconds,
        grown_bytes=grown,
        leftovers=leftovers,
    )


def damage(one: Input, folder: Path) -> None:
    """Damages a copy of the undamaged files as an input asks for."""
    if one.seed is not None:
        known = KINDS[one.kind]
        known.damage(folder / known.path, one.chance)


def invoke(words: tuple[str, ...]) -> tuple[int | None, str]:
    """Runs kq in this process; gives its exit code, and what it said."""
    from keras_quant.cli.main import main as kq

    result = CliRunner().invoke(kq, words)
    if result.exception is None or isinstance(result.exception, SystemExit):
        return result.exit_code, result.output
    raised = "".join(traceback.format_exception(result.exception))
    return None, f"{result.output}{raised}"


def _prepare(originals: Path) -> None:
    """Loads what commands load, so that it does not count as theirs."""
    os.environ["KQ_DATA_DIR"] = str(originals / DATA_FOLDER)
    sys.modules["netron"] = _netron()
    import keras_quant.tf  # noqa: F401

    os.chdir(originals)
    invoke(("evaluate", "models/run"))
    _forget()


def _netron() -> types.ModuleType:
    """What stands in for Netron, which would serve the file until Ctrl-C."""
    netron = types.ModuleType("netron")
    vars(netron).update(start=lambda *a, **k: ("localhost", 1), wait=lambda: None)
    return netron


def _forget() -> None:
    from keras_quant.tf import keras

    keras.backend.clear_session()
    gc.collect()


def _reset_peak() -> int:
    """Lets the peak of this process' memory begin at what it holds, which it returns."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _held("VmRSS")


def _held(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()

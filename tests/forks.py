"""Commands of kq as processes that start at once: forked off one that has imported all they need.

    python -m tests.forks

A start of Python and TensorFlow takes seconds; kills at a hundred random moments need many starts.
Nothing is computed before the fork, so TensorFlow has no threads that a child would lack.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
READY = "ready"


class Forks:
    """The process that forks, seen from outside."""

    def __init__(self, folder: Path, log: Path) -> None:
        """Starts it.

        Args:
            folder: the current one of all commands.
            log: what commands print.
        """
        self.log = log
        with open(log, "wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(folder)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        assert self._read() == READY

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *raised: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait()

    def start(self, *commands: Sequence[str]) -> list[int]:
        """Starts commands side by side; `ended` is to be called before the next start.

        Returns: their process ids.
        """
        assert self._process.stdin is not None
        print(json.dumps(commands), file=self._process.stdin, flush=True)
        return [int(pid) for pid in self._read()]

    def ended(self) -> list[int]:
        """Waits until all have ended; gives their exit codes, minus the signal where killed."""
        return [int(code) for code in self._read()]

    def run(self, *commands: Sequence[str]) -> list[int]:
        """Starts commands side by side, and waits; gives their exit codes."""
        self.start(*commands)
        return self.ended()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text(errors="replace")
        return json.loads(line)


def main() -> None:
    """Forks off a child for each command of each line."""
    import keras_quant.jobs.evaluate
    import keras_quant.jobs.export
    import keras_quant.jobs.train
    import keras_quant.proof.formats.onnx_tensorrt
    import keras_quant.proof.formats.onnx_x86
    import keras_quant.proof.formats.tflite
    import keras_quant.runners.onnxruntime  # noqa: F401
    from keras_quant.methods.readers import file_names

    file_names()  # QKeras
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.chdir(sys.argv[1])
    print(json.dumps(READY), file=answers, flush=True)
    for line in sys.stdin:
        pids = [_fork(command) for command in json.loads(line)]
        print(json.dumps(pids), file=answers, flush=True)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps(codes), file=answers, flush=True)


def _fork(words: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        from keras_quant.cli.main import main as kq

        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv[1:] = words
        kq(words, prog_name="kq")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

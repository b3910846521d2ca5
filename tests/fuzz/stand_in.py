"""What stands in for a worker, and does what an input's command is called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

from tests.fuzz.worker import READY, Answer

HELD_BYTES = 300 * 10**6


def crash() -> None:
    os.write(2, b"its last words\n")
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    time.sleep(1000)


def hold() -> None:
    """Holds memory until it is stopped."""
    held = bytearray(HELD_BYTES)
    time.sleep(1000)
    held.clear()


def hold_in_child() -> None:
    """Has a child that holds memory for a second."""
    code = f"import time; held = bytearray({HELD_BYTES}); time.sleep(1)"
    subprocess.run([sys.executable, "-c", code], check=True)


def answer() -> None:
    """Does nothing else."""


def main() -> None:
    print(READY, flush=True)
    for line in sys.stdin:
        globals()[line.split("/")[1]]()
        print(json.dumps(asdict(Answer(exit_code=0, output="said", seconds=0.0))), flush=True)


if __name__ == "__main__":
    main()

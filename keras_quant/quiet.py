"""Keeping libraries' native log lines off the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def native_logs_hidden() -> Iterator[None]:
    """Hides what C++ code writes to stderr within; shows it after all when the block raises.

    TensorFlow and LiteRT greet with lines about processors and delegates that their own log
    levels do not reach. KQ_DEBUG=1 leaves them.
    """
    if os.environ.get("KQ_DEBUG") or sys.stderr is None:  # started with stderr closed
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(terminal, 2)
            hidden.seek(0)
            os.write(2, hidden.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)

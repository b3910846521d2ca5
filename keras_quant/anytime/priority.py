"""Ahead of all other processes: where a deadline must be kept on a machine that does other work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from keras_quant.errors import UsageError

PRIORITY = 50
"""Of 1 to 99: above what is not real time, below what the system itself needs at once."""


@contextmanager
def realtime() -> Iterator[None]:
    """Runs a block, and the processes that it starts, before all that have no such priority.

    SCHED_FIFO: a stage is not interrupted by other programs. Linux gives such processes 95 % of
    each second by default (sched_rt_runtime_us); who computes without any pause is stopped for the
    rest of it, some 50 ms, so this is for images that come with time between them.

    Raises:
        UsageError: the system does not allow it, or has nothing like it.
    """
    if not hasattr(os, "sched_setscheduler"):
        raise UsageError("--realtime: this system has no real-time priorities")
    before, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except OSError as error:
        raise UsageError(
            f"--realtime: {error.strerror}. It needs the right to (CAP_SYS_NICE, or a limit: "
            f"ulimit -r {PRIORITY}): run as root, or leave it out"
        ) from None
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, parameters)

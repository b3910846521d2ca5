"""How a proof shares a machine: images over threads, each with one thread of BLAS."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager

import threadpoolctl

# Each thread loads all files, and their probes, for itself.
MOST_THREADS = 4


def thread_count() -> int:
    """How many threads to prove files with."""
    allowed = getattr(os, "sched_getaffinity", None)
    processors = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(MOST_THREADS, processors)


def one_blas_thread() -> AbstractContextManager[object]:
    """Keeps BLAS from using threads of its own, which wait for each other on a busy machine.

    For the whole process, so it is entered once, by whoever starts the threads.
    """
    limited: AbstractContextManager[object] = _controller().limit(limits=1, user_api="blas")
    return limited


@functools.cache
def _controller() -> threadpoolctl.ThreadpoolController:
    """Looks for the libraries that are loaded; numpy's is, once it is imported."""
    return threadpoolctl.ThreadpoolController()

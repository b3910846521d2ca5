"""What the child process of `runners.child` does: answers requests until nobody asks any more."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from keras_quant.errors import KerasQuantError
from keras_quant.json_codec import to_json
from keras_quant.runners import Runner
from keras_quant.runners.messages import Arrays, read_into, receive, send

Reply = tuple[dict[str, Any], Arrays]


def serve() -> None:
    """Answers on what stdout was, where libraries print to stderr from now on.

    A request that takes longer than it may ends the process by SIGALRM, which no native code can
    hold up; so a child does not outlive who started it either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    requests, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    runners: list[Runner] = []
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            request, arrays = receive(partial(read_into, requests), largest=sys.maxsize)
            signal.setitimer(signal.ITIMER_REAL, request.pop("seconds"))
            try:
                reply, found = _answer(runners, arrays, **request)
            except Exception as error:
                reply, found = _refusal(error), {}
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(answers, reply, found)


def _answer(
    runners: list[Runner],
    arrays: Arrays,
    *,
    call: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    load: str | None = None,
    file: str = "",
) -> Reply:
    """Calls a function, loads a model, or runs the one that was loaded."""
    if call is not None:
        return {"returned": json.loads(to_json(_named(call)(Path(file), **(arguments or {}))))}, {}
    if load is not None:
        runners[:] = [_named(load)(Path(file))]
        (runner,) = runners
        batch = getattr(runner, "batch", None)
        return {
            "info": json.loads(to_json(runner.info)),
            "inputs": runner.inputs,
            "batch": batch,
        }, {}
    return {}, runners[0].run(arrays)


def _refusal(error: Exception) -> dict[str, Any]:
    if isinstance(error, KerasQuantError):
        return {"error": type(error).__name__, "text": str(error)}
    return {"error": None, "text": f"{type(error).__name__}: {error}"}


def _named(reference: str) -> Any:
    """What is called "MODULE:NAME"."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)

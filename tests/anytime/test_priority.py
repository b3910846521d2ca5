"""A priority is asked of the system, given back, and where it is not granted that is told."""

from __future__ import annotations

import os

import pytest

from keras_quant.anytime.priority import PRIORITY, realtime
from keras_quant.errors import UsageError


def test_a_priority_ends_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def recorded(pid: int, policy: int, parameters: os.sched_param) -> None:
        asked.append((policy, parameters.sched_priority))

    monkeypatch.setattr(os, "sched_setscheduler", recorded)
    with pytest.raises(ZeroDivisionError), realtime():
        assert asked == [(os.SCHED_FIFO, PRIORITY)]
        raise ZeroDivisionError
    assert asked[1:] == [(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)]


def test_a_priority_that_is_not_granted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, policy: int, parameters: os.sched_param) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(UsageError, match="--realtime: Operation not permitted. It needs the right"):
        realtime().__enter__()
    monkeypatch.delattr(os, "sched_setscheduler")
    with pytest.raises(UsageError, match="has no real-time priorities"):
        realtime().__enter__()

"""The stages behind those here, on another machine, as the one who asks for them sees them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_quant.anytime.connection import Address, Connection
from keras_quant.anytime.lookup import Lookup
from keras_quant.anytime.packing import handed_on, pack, packed_bytes
from keras_quant.anytime.protocol import (
    Ending,
    ask_header,
    hello,
    read_reply,
    read_welcome,
)
from keras_quant.anytime.runner import MS, LoadedStage, Reply
from keras_quant.errors import PeerError
from keras_quant.runs.stages import StageFile

TIMEOUT_S = 1.0
RETRY_S = 1.0
"""A machine that is lost is looked for again after so long: looking for it may take TIMEOUT_S."""

_SCORE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """How long another machine takes, in ms.

    Attributes:
        p50_ms, p99_ms: until its first answer is here.
        way_ms: of that p99, all but its stage: what it does not have to compute in.
    """

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    way_ms: float = 0.0


class Peer:
    """A `runner.Beyond` on another machine.

    Attributes:
        trip: how long it takes; nothing until `profile` was called.
    """

    def __init__(
        self,
        address: Address,
        form: str,
        files: Sequence[StageFile],
        ending: Ending,
        *,
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
        trip: Trip | None = None,
        first: int | None = None,
    ) -> None:
        """Takes where it is; it is looked for when it is needed, or by `connect`.

        Args:
            form: of the files, a key of FORMATS.
            files: all stages of the net, as this machine has them on record.
            ending: when images end early, there too.
            timeout_s: the longest that is waited for it.
            retry_s: how long it stays lost.
            trip: how long it takes, where that is known.
            first: the stage that it has to go on with, from 1 on; None for any.
        """
        self.address, self.timeout_s, self.trip = address, timeout_s, trip or Trip()
        self._form, self._files, self._ending = form, tuple(files), ending
        self._retry_s, self._lost_until = retry_s, 0.0
        self._why_lost = ""
        self._connection: Connection | None = None
        self._lookup = Lookup(address.host, address.port)
        self._first = first
        self._number = self._just_sent = 0
        answer = self._files[-1].answer
        (self._classes,) = next(p.shape for p in self._files[-1].outputs if p.name == answer)

    @property
    def expected_ms(self) -> float:
        """How long it takes until its first answer is here."""
        return self.trip.p99_ms

    @property
    def first(self) -> int:
        """The stage that it goes on with, from 1 on; known when it was connected."""
        assert self._first is not None
        return self._first

    @property
    def view_bytes(self) -> int:
        """What one view of an image is packed into, without the header of the message."""
        return packed_bytes(handed_on(self._files, self.first - 1))

    def connect(self, *, seconds: float | None = None) -> Connection:
        """Connects, where it is not connected, and compares the nets.

        Raises:
            PeerError: it cannot be reached, or has another net, or goes on with another stage than
                it has to, or did before.
        """
        if self._connection is not None:
            return self._connection
        seconds = self.timeout_s if seconds is None else seconds
        until = time.monotonic() + seconds
        largest = _SCORE_BYTES * self._classes
        made = Connection.to(self.address, self._lookup, seconds=seconds, largest=largest)
        try:
            made.send(hello(self._form, self._files, self._ending), seconds=seconds)
            header, _ = made.receive(seconds=until - time.monotonic())
            first = read_welcome(header, who=str(self.address), stages=len(self._files))
            if self._first not in (None, first):
                raise PeerError(
                    f"{self.address}: goes on with stage {first}; stage {self._first} is needed"
                )
        except PeerError:
            made.close()
            raise
        self._connection, self._first = made, first
        return made

    def ask(self, known: Mapping[str, np.ndarray], *, within_ms: float) -> Reply:
        """Hands on what its stages need, and waits for what they answer; see `runner.Beyond`.

        Raises:
            PeerError: there is no answer by then, or within `timeout_s`; or it is lost, and not
                looked for again before `retry_s` have passed.
            DataError: what is handed on is none of the codes on record.
        """
        there_ms = max(0.0, within_ms - self.trip.way_ms)
        return self._ask(known, within_ms=within_ms, there_ms=there_ms)

    def profile(
        self,
        known: Mapping[str, np.ndarray],
        *,
        behind: Sequence[LoadedStage] = (),
        calls: int = 100,
    ) -> Trip:
        """Measures how long its first answer takes to be here, and keeps that in `trip`.

        Args:
            known: what the first stage here takes; without one, see `ask`.
            behind: the stages here that it goes on from, each of which is run once.
        Raises:
            PeerError: see `ask`.
        """
        known = dict(known)
        for stage in behind:
            stage.run(known)
        took_ms, there_ms = [], []
        for _ in range(calls + calls // 10):
            started = time.perf_counter()
            # Without time left it gives its first answer, and begins no other stage.
            reply = self._ask(known, within_ms=float("inf"), there_ms=0.0, is_try=True)
            took_ms.append((time.perf_counter() - started) * MS)
            there_ms.append(reply.took_ms)
        half, most = map(float, np.percentile(took_ms[calls // 10 :], (50, 99)))
        way_ms = max(0.0, most - float(np.median(there_ms)))
        self.trip = Trip(p50_ms=half, p99_ms=most, way_ms=way_ms)
        return self.trip

    def _ask(
        self,
        known: Mapping[str, np.ndarray],
        *,
        within_ms: float,
        there_ms: float,
        is_try: bool = False,
    ) -> Reply:
        until = time.monotonic() + min(self.timeout_s, within_ms / MS)
        if self._connection is None and time.monotonic() < self._lost_until:
            raise PeerError(self._why_lost)
        was_connected, sent = self._connection is not None, 0
        while True:
            self._just_sent = 0
            try:
                reply = self._asked_once(known, until, there_ms, is_try=is_try)
            except PeerError as error:
                sent += self._just_sent
                is_late = error.timed_out and self._just_sent  # what comes too late is passed over
                if is_late or isinstance(error, _NoTimeError):
                    error.sent_bytes = sent
                    raise
                self.close()
                if was_connected and not error.timed_out:
                    was_connected = False  # it may have begun anew since the last image
                    continue
                error.sent_bytes = sent
                self._why_lost, self._lost_until = str(error), time.monotonic() + self._retry_s
                raise
            return replace(reply, sent_bytes=(sent + self._just_sent, *reply.sent_bytes))

    def _asked_once(
        self, known: Mapping[str, np.ndarray], until: float, there_ms: float, *, is_try: bool
    ) -> Reply:
        connection = self.connect(seconds=_left(until))
        packed = pack(known, handed_on(self._files, self.first - 1))
        self._number += 1
        header = ask_header(self._number, there_ms, is_try=is_try)
        self._just_sent = connection.send(header, {"codes": packed}, seconds=_left(until))
        return self._reply(connection, until)

    def close(self) -> None:
        """Ends the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reply(self, connection: Connection, until: float) -> Reply:
        """The answer to what was asked last; those that came too late are passed over."""
        while True:
            header, arrays = connection.receive(seconds=_left(until))
            if header.get("answer") == self._number:
                return read_reply(
                    header,
                    arrays,
                    who=str(self.address),
                    exits=range(self.first - 1, len(self._files)),
                    classes=self._classes,
                )


class _NoTimeError(PeerError):
    """The time was over before something began, which says nothing of the other machine."""


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise _NoTimeError("there was no time left to ask", timed_out=True)
    return left

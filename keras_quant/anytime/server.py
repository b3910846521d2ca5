"""Answers for stages that other machines ask for: one thread a connection, one image at a time.

Who asks is trusted with numbers alone: messages have bounds, each image is of the codes that the
net has, and nothing that comes is ever run. There is no encryption, and nobody is asked who he is.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from keras_quant.anytime.connection import Address, Connection, EndedError
from keras_quant.anytime.packing import handed_on, packed_bytes, unpack
from keras_quant.anytime.peer import TIMEOUT_S, Peer, Trip
from keras_quant.anytime.protocol import (
    MOST_VIEWS,
    Ending,
    read_ask,
    read_hello,
    reply_header,
    welcome,
)
from keras_quant.anytime.runner import MS, AnytimeRunner, LoadedStage, Reply
from keras_quant.anytime.views import CONCAT, Concat
from keras_quant.errors import KerasQuantError, PeerError, UsageError
from keras_quant.runners import Inference, Runner
from keras_quant.runs.stages import StageFile

MOST_CONNECTIONS = 16
MESSAGE_S = 10.0
"""From the first byte of a message to its last, and until a hello: who is slower is dropped."""

IDLE_S = 600.0
"""Between two images: who asks nothing for so long is dropped, and connects again when he does."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """What is served.

    Attributes:
        form: of the files, a key of FORMATS.
        files: all stages of the net.
        first: the place of the first that runs here, from 0 on.
        stages: those that run here, loaded.
        expected_ms: how long each takes; the first is run however little time there is.
        next_address: of the machine that goes on behind them; None where they are the last.
        next_trip: how long that one takes, where it is known.
        timeout_s: how long it is waited for.
        concat: what makes views one answer, where it was learned.
    """

    form: str
    files: tuple[StageFile, ...]
    first: int
    stages: tuple[LoadedStage, ...]
    expected_ms: tuple[float, ...]
    next_address: Address | None = None
    next_trip: Trip | None = None
    timeout_s: float = TIMEOUT_S
    concat: Concat | None = None

    @property
    def title(self) -> str:
        """Which stages these are."""
        first, last = self.first + 1, self.first + len(self.stages)
        which = f"stage {first}" if first == last else f"stages {first} to {last}"
        return f"{which} of {len(self.files)}"


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a server has done.

    Attributes:
        asked: images.
        endings: how many ended at an exit for a reason.
        received_bytes, sent_bytes: to and from those who ask, headers too.
        sent_on_bytes: to the next machine.
        refused: connections, of other nets say.
        tries: which only showed how long an answer takes; nothing else is counted of them.
    """

    asked: int = 0
    endings: Counter[tuple[int, str]] = field(default_factory=Counter)
    received_bytes: int = 0
    sent_bytes: int = 0
    sent_on_bytes: int = 0
    refused: int = 0
    tries: int = 0


def _nothing(text: str) -> None:
    """Says it to nobody."""


class StageServer(socketserver.ThreadingTCPServer):
    """Listens, and answers until `shutdown`; see `socketserver.BaseServer.serve_forever`.

    Attributes:
        counts: so far.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(
        self, listen: Address, served: Served, *, say: Callable[[str], object] = _nothing
    ) -> None:
        """Listens.

        Args:
            say: is told what goes wrong, a line each, from any thread.
        Raises:
            UsageError: that cannot be listened on.
        """
        self.served, self.counts, self.say = served, Counts(), say
        self._lock, one_at_a_time = threading.Lock(), threading.Lock()
        self._connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.stages = tuple(
            replace(stage, runner=_OneAtATime(stage.runner, one_at_a_time))
            for stage in served.stages
        )
        try:
            family, _, _, _, place = socket.getaddrinfo(
                listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.address_family = family
            super().__init__(place[:2], _Handler)  # type: ignore[arg-type]
        except OSError as error:
            raise UsageError(
                f"--listen {listen}: {error.strerror or error}. Give an address of this machine, "
                "and a port that is free; port 0 is any"
            ) from None

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self.server_address[:2]
        return Address(host=str(host), port=int(port))

    def process_request(self, request: object, client_address: object) -> None:
        """Begins a thread for a connection, where there are not too many."""
        if not self._connections.acquire(blocking=False):
            self.add(refused=1)
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Answers a connection until it ends."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._connections.release()

    def server_close(self) -> None:
        """Listens no more; images that are being answered are left, and nothing is said of them."""
        self.say = _nothing
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says what a connection ended with that nobody thought of, without a traceback."""
        self.say(f"a connection ended with {sys.exc_info()[1]!r}. This is a bug of kq")

    def add(self, *, ending: tuple[int, str] | None = None, **counts: int) -> None:
        """Counts what was done, from any thread."""
        with self._lock:
            for name, count in counts.items():
                setattr(self.counts, name, getattr(self.counts, name) + count)
            if ending is not None:
                self.counts.endings[ending] += 1


class _OneAtATime:
    """A runner that several threads may use."""

    def __init__(self, runner: Runner, lock: threading.Lock) -> None:
        self._runner, self._lock, self.info = runner, lock, runner.info

    @property
    def inputs(self) -> tuple[str, ...]:
        return self._runner.inputs

    def prepare(self, inputs: Mapping[str, np.ndarray]) -> Inference:
        return partial(self.run, inputs)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            return self._runner.run(inputs)


class _Handler(socketserver.BaseRequestHandler):
    """A connection."""

    server: StageServer

    def handle(self) -> None:
        """Answers until the other end closes the connection, or says what is not understood."""
        host, port = self.client_address[:2]
        served, who = self.server.served, str(Address(host=host, port=port))
        self._ports = handed_on(served.files, served.first)
        self._size = packed_bytes(self._ports)
        largest = MOST_VIEWS * self._size
        connection = Connection(self.request, who=who, largest=largest)
        try:
            self._answer_all(connection, self._met(connection, who))
        except EndedError:
            pass
        except PeerError as error:
            self.server.say(str(error))

    def _met(self, connection: Connection, who: str) -> Ending:
        header, _ = connection.receive(seconds=MESSAGE_S)
        served = self.server.served
        concat = "" if served.concat is None else served.concat.sha256
        try:
            ending = read_hello(header, served.form, served.files, concat=concat)
        except PeerError as error:
            self.server.add(refused=1)
            connection.send({"refused": str(error)}, seconds=MESSAGE_S)
            raise PeerError(f"{who}: refused: it {error}") from None
        connection.send(welcome(served.first + 1), seconds=MESSAGE_S)
        return ending

    def _answer_all(self, connection: Connection, ending: Ending) -> None:
        beyond = self._beyond(ending)
        served = self.server.served
        learned = served.concat if ending.aggregate == CONCAT else None
        runner = AnytimeRunner(
            self.server.stages,
            expected_ms=served.expected_ms,
            rule=ending.rule,
            thresholds=ending.thresholds[served.first : served.first + len(served.stages)],
            aggregate=learned or ending.aggregate,
            first=served.first,
            beyond=beyond,
        )
        try:
            while True:
                self._answer_one(connection, runner)
        finally:
            if beyond is not None:
                beyond.close()

    def _beyond(self, ending: Ending) -> Peer | None:
        served = self.server.served
        if served.next_address is None:
            return None
        return Peer(
            served.next_address,
            served.form,
            served.files,
            ending,
            timeout_s=served.timeout_s,
            trip=served.next_trip,
            first=served.first + len(served.stages) + 1,
        )

    def _answer_one(self, connection: Connection, runner: AnytimeRunner) -> None:
        before = connection.received_bytes
        header, arrays = connection.receive(seconds=MESSAGE_S, begin_seconds=IDLE_S)
        started = time.perf_counter()
        ask = read_ask(header, arrays, self._size)
        try:
            answer = runner.run(unpack(ask.packed, self._ports), deadline_ms=ask.within_ms)
        except KerasQuantError as error:
            failed = {"answer": ask.number, "failed": str(error)}
            sent = connection.send(failed, seconds=MESSAGE_S)
            self.server.say(f"an image was not answered: {error}")
            ending = (self.server.served.first, "failed")
            sent_on = 0
        else:
            reply = Reply(
                logits=answer.logits,
                exit=answer.exit,
                reason=answer.reason,
                took_ms=(time.perf_counter() - started) * MS,
                sent_bytes=answer.sent_bytes,
                note=answer.note,
            )
            scores = {"scores": np.asarray(reply.logits, "<f4")}
            sent = connection.send(reply_header(ask.number, reply), scores, seconds=MESSAGE_S)
            ending, sent_on = (answer.exit, answer.reason), sum(answer.sent_bytes)
        if ask.is_try:
            self.server.add(tries=1)
            return
        self.server.add(
            ending=ending,
            asked=1,
            received_bytes=connection.received_bytes - before,
            sent_bytes=sent,
            sent_on_bytes=sent_on,
        )

"""Stages on several machines, which are threads here, on real sockets of the loopback."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keras_quant.anytime.connection import (
    Address,
    Connection,
    UnreachableError,
    parse_address,
)
from keras_quant.anytime.peer import Peer
from keras_quant.anytime.protocol import Ending
from keras_quant.anytime.runner import AnytimeRunner, LoadedStage
from keras_quant.anytime.server import MOST_CONNECTIONS, Counts, StageServer
from keras_quant.anytime.views import Concat, Layer
from keras_quant.errors import DataError, PeerError, UsageError
from keras_quant.runners.messages import encoded
from tests.anytime.served import (
    CLASSES,
    CODES,
    FILES,
    LOOPBACK,
    NEVER_EARLY,
    FakeStage,
    served,
    serving,
    stages,
)

IMAGE = {"image": np.array([[0, 1, 2, -4, 3]], np.float32)}
SOON_S = 0.05
LONG_S = 5.0


def a_peer(address: Address, ending: Ending = NEVER_EARLY, **different: Any) -> Peer:
    return Peer(address, "tflite", FILES, ending, **{"timeout_s": LONG_S, **different})


def a_runner(peer: Peer, local: int = 1, **different: Any) -> AnytimeRunner:
    return AnytimeRunner(
        stages()[:local],
        beyond=peer,
        **{"rule": "max", "thresholds": NEVER_EARLY.thresholds[:local], **different},
    )


@contextmanager
def met(listening: socket.socket) -> Iterator[Connection]:
    """The next connection to a machine that has stage 2, which has said so."""
    accepted, _ = listening.accept()
    with accepted:
        connection = Connection(accepted, who="asks", largest=100)
        connection.receive(seconds=LONG_S)
        connection.send({"welcome": "keras_quant stages", "first": 2}, seconds=LONG_S)
        yield connection


def fake(stage: LoadedStage) -> FakeStage:
    assert isinstance(stage.runner, FakeStage)
    return stage.runner


def test_three_machines_answer_as_one() -> None:
    alone = AnytimeRunner(stages()).run(IMAGE)
    with (
        serving(served(2, 2)) as cloud,
        serving(served(1, 1, next_address=cloud.address)) as edge,
    ):
        peer = a_peer(edge.address)
        answer = a_runner(peer).run(IMAGE)
    np.testing.assert_array_equal(answer.logits, alone.logits)
    assert (answer.exit, answer.reason) == (alone.exit, alone.reason) == (2, "last")
    assert answer.logits.tolist() == [9, 12, 15] and peer.first == 2


def test_bytes_are_counted_on_each_way() -> None:
    with (
        serving(served(2, 2)) as cloud,
        serving(served(1, 1, next_address=cloud.address)) as edge,
    ):
        peer = a_peer(edge.address)
        runner = a_runner(peer)
        answers = [runner.run(IMAGE) for _ in range(3)]
        _wait_for(lambda: edge.counts.asked == cloud.counts.asked == 3)
    assert peer.view_bytes == 3  # five codes of 4 bits
    to_edge, to_cloud = zip(*(answer.sent_bytes for answer in answers), strict=True)
    assert edge.counts.received_bytes == sum(to_edge)
    assert edge.counts.sent_on_bytes == cloud.counts.received_bytes == sum(to_cloud)
    assert edge.counts.asked == cloud.counts.asked == 3
    assert edge.counts.endings == {(2, "last"): 3}


def test_an_answer_that_is_sure_is_not_sent_on() -> None:
    ending = Ending(rule="max", thresholds=(2.0, 0.0), aggregate="max")
    with (
        serving(served(2, 2)) as cloud,
        serving(served(1, 1, next_address=cloud.address)) as edge,
    ):
        answer = a_runner(a_peer(edge.address, ending)).run(IMAGE)
        assert (answer.exit, answer.reason, len(answer.sent_bytes)) == (1, "sure", 1)
        here = a_runner(a_peer(edge.address), thresholds=(0.0,)).run(IMAGE)
        assert (here.exit, here.reason, here.sent_bytes) == (0, "sure", ())
    assert cloud.counts.asked == 0


@pytest.mark.parametrize(("how", "wanted"), [("max", [9, 15, 15]), ("average", [6, 13.5, 13.5])])
def test_several_views_become_one_answer(how: str, wanted: list[float]) -> None:
    views = {"image": np.array([[0, 1, 2, 0, 0], [-2, 2, 1, 0, 0]], np.float32)}
    alone = AnytimeRunner(stages(), aggregate=how).run(views)
    assert alone.logits.tolist() == wanted
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address, replace(NEVER_EARLY, aggregate=how))
        answer = a_runner(peer, aggregate=how).run(views)
        _wait_for(lambda: server.counts.asked == 1)
        assert server.counts.asked == 1
    assert answer.logits.tolist() == wanted


def concat(*, seed: int = 0, views: int = 2) -> Concat:
    """Layers of random weights, whose sums have to be rounded."""
    rng = np.random.default_rng(seed)
    return Concat(
        layers=tuple(
            Layer(
                weights=rng.normal(0, 1, (views, CLASSES, CLASSES)).astype(np.float32),
                bias=rng.normal(0, 1, CLASSES).astype(np.float32),
            )
            for _ in FILES
        )
    )


def by(layers: Concat) -> Ending:
    return replace(NEVER_EARLY, aggregate="concat", concat=layers.sha256)


def test_layers_answer_on_three_machines_as_on_one_to_the_last_bit() -> None:
    layers = concat()
    views = {"image": np.array([[0, 1, 2, 0, 0], [-2, 2, 1, 0, 0]], np.float32)}
    alone = list(AnytimeRunner(stages(), aggregate=layers).answers(views))
    for last, thresholds in enumerate([(0.0, 2.0), (2.0, 0.0), (2.0, 2.0)]):
        ending = replace(by(layers), thresholds=thresholds)
        with (
            serving(served(2, 2, concat=concat())) as cloud,
            serving(served(1, 1, concat=concat(), next_address=cloud.address)) as edge,
        ):
            peer = a_peer(edge.address, ending)
            answer = a_runner(peer, thresholds=thresholds[:1], aggregate=layers).run(views)
            peer.close()
        assert answer.exit == last
        assert answer.logits.tobytes() == alone[last].logits.tobytes()
    assert len({answer.logits.tobytes() for answer in alone}) == 3


@pytest.mark.parametrize(
    ("theirs", "told"),
    [
        ({"concat": concat(seed=1)}, "asks for concat with other layers than those of concat.json"),
        ({}, "asks for concat, and here is no concat.json. Copy concat.json"),
    ],
)
def test_other_layers_are_refused(theirs: dict[str, Any], told: str) -> None:
    with (
        serving(served(1, 2, **theirs)) as server,
        pytest.raises(PeerError, match=f"refuses: this machine {told}"),
    ):
        a_peer(server.address, by(concat())).connect()


def test_who_has_layers_answers_those_who_ask_for_none() -> None:
    with serving(served(1, 2, concat=concat())) as server:
        assert a_runner(a_peer(server.address)).run(IMAGE).logits.tolist() == [9, 12, 15]


def test_another_number_of_views_is_answered_from_here_and_told() -> None:
    with serving(served(1, 2, concat=concat())) as server:
        answer = a_runner(a_peer(server.address, by(concat()))).run(IMAGE)
    assert (answer.exit, answer.reason) == (0, "peer lost")
    assert "learned for 2 views of 3 classes; here are 1 of 3" in answer.note


def test_a_peer_that_is_lost_leaves_the_best_answer_from_here() -> None:
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address, retry_s=0.0)
        runner = a_runner(peer)
        assert runner.run(IMAGE).reason == "last"
    peer.close()
    for _ in range(2):
        answer = runner.run(IMAGE)
        assert (answer.exit, answer.reason) == (0, "peer lost")
        assert answer.logits.tolist() == [1, 2, 3]
        assert "cannot be reached (Connection refused)" in answer.note
    with StageServer(server.address, served(1, 2)) as again:
        thread = threading.Thread(target=again.serve_forever, args=(0.01,))
        thread.start()
        assert runner.run(IMAGE).reason == "last"  # it is looked for again
        again.shutdown()
        thread.join()


def test_a_lost_peer_is_not_looked_for_with_each_image() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = Address(host="127.0.0.1", port=closed.getsockname()[1])
    peer = a_peer(address, retry_s=60.0)
    runner = a_runner(peer)
    assert runner.run(IMAGE).reason == "peer lost"
    with StageServer(address, served(1, 2)):
        assert runner.run(IMAGE).reason == "peer lost"


def test_what_comes_too_late_is_passed_over() -> None:
    what = served(1, 2)
    slow = fake(what.stages[0])
    with serving(what) as server:
        peer = a_peer(server.address)
        runner = a_runner(peer)
        slow.waits_for.clear()
        late = runner.run(IMAGE, deadline_ms=1000 * SOON_S)
        assert (late.exit, late.reason) == (0, "deadline")
        assert "did not answer in time" in late.note and len(late.sent_bytes) == 1
        peer.timeout_s = SOON_S
        silent = runner.run(IMAGE)
        assert (silent.exit, silent.reason) == (0, "no reply")
        slow.waits_for.set()
        peer.timeout_s = LONG_S
        other = {"image": IMAGE["image"] + 1}
        assert runner.run(other).logits.tolist() == [12, 15, 18]


def test_a_peer_that_takes_too_long_is_not_asked() -> None:
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address)
        runner = a_runner(peer)
        known = dict(IMAGE)
        stages()[0].run(known)
        trip = peer.profile(known, calls=10)
        assert 0 < trip.p50_ms <= trip.p99_ms and trip.way_ms <= trip.p99_ms
        answer = runner.run(IMAGE, deadline_ms=trip.p99_ms / 100)
    assert (answer.exit, answer.reason, answer.sent_bytes) == (0, "deadline", ())


def test_a_peer_without_time_gives_its_first_answer() -> None:
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address)
        known = dict(IMAGE)
        stages()[0].run(known)
        assert peer._ask(known, within_ms=1000 * LONG_S, there_ms=0.0).reason == "deadline"
        _wait_for(lambda: server.counts.asked == 1)
        assert server.counts.endings == {(1, "deadline"): 1}


def test_tries_are_told_apart_from_images() -> None:
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address)
        known = dict(IMAGE)
        stages()[0].run(known)
        peer.profile(known, calls=5)
        _wait_for(lambda: server.counts.tries == 5)
        assert server.counts == Counts(tries=5)
        a_runner(peer).run(IMAGE)
        _wait_for(lambda: server.counts.asked)
        assert (server.counts.asked, server.counts.tries) == (1, 5)
        assert server.counts.endings == {(2, "last"): 1}
        peer.close()


def test_the_edge_answers_where_the_cloud_is_lost() -> None:
    nobody = Address(host="127.0.0.1", port=1)
    with serving(served(1, 1, next_address=nobody)) as edge:
        answer = a_runner(a_peer(edge.address)).run(IMAGE)
    assert (answer.exit, answer.reason) == (1, "peer lost")
    assert "127.0.0.1:1: cannot be reached" in answer.note


OTHER_FILE = (*FILES[:2], replace(FILES[2], sha256="f" * 64))
OTHER_CODES = replace(FILES[1], inputs=(replace(CODES[0], highest=8),))


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ({"files": OTHER_FILE}, "has another net: stages 3 differ .* by SHA-256. Copy the run"),
        ({"files": (*FILES, FILES[2])}, "has another net: it has more stages"),
        (
            {"files": (FILES[0], OTHER_CODES, FILES[2])},
            "has the same files, .* tells of other codes than that here",
        ),
        ({"form": "onnx"}, "asks for stages of 'onnx'; those here are of tflite"),
        ({"ending": replace(NEVER_EARLY, rule=["x"])}, r"asks for rule \['x'\]"),
        ({"ending": replace(NEVER_EARLY, rule="x")}, "asks for rule 'x'.* known are entropy"),
        ({"ending": replace(NEVER_EARLY, thresholds=())}, "asks for .* 2 thresholds are needed"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_another_net_is_refused(peer: dict[str, Any], told: str) -> None:
    said: list[str] = []
    made = {"form": "tflite", "files": FILES, "ending": NEVER_EARLY, **peer}
    with serving(served(1, 2), said) as server:
        with pytest.raises(PeerError, match=f"refuses: this machine {told}"):
            Peer(server.address, **made).connect()
        _wait_for(lambda: bool(said))
    assert "refused: it " in said[0] and server.counts.refused == 1


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + LONG_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.001)


def test_codes_that_the_net_does_not_have_are_not_sent() -> None:
    with serving(served(1, 2)) as server, pytest.raises(DataError, match="none of its codes"):
        a_runner(a_peer(server.address)).run({"image": np.full((1, 5), 100, np.float32)})


HELLO = {"hello": "keras_quant stages", "version": 1}


def message(header: Any, arrays: dict[str, np.ndarray] | None = None) -> bytes:
    return b"".join(encoded(header, arrays))


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (2**62).to_bytes(8, "big"),
        (3).to_bytes(8, "big") + b"[1]",
        (60_000).to_bytes(8, "big") + b"[" * 60_000,
        message({"hello": "other", "version": 9}),
        message({**HELLO, "net": [1]}),
        message({**HELLO, "net": {"files": [["deep"]], "format": "tflite"}}),
        message(HELLO, {"codes": np.zeros(4096, np.uint8)}),
        message(HELLO, {"codes": np.zeros(1, np.int64)}),
        message(HELLO)[:-30] + b"\x80\x04pickle" + b" " * 21,
        (70).to_bytes(8, "big") + b'{"arrays": [["x", "|u1", [-1, -1]]]}'.ljust(70),
        (70).to_bytes(8, "big") + b'{"arrays": [["x", "|u1", [1e400]]]}'.ljust(70),
    ],
    ids=range(12),
)
def test_what_is_no_message_is_dropped_and_the_next_one_answered(content: bytes) -> None:
    said: list[str] = []
    with serving(served(1, 2), said) as server:
        with socket.create_connection((server.address.host, server.address.port)) as stranger:
            stranger.settimeout(LONG_S)
            stranger.sendall(content)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
        assert a_runner(a_peer(server.address)).run(IMAGE).reason == "last"
    assert said and not any("bug" in line for line in said)


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        ({"ask": "1"}, {"codes": np.zeros((1, 3), np.uint8)}),
        ({"ask": 1, "within_ms": float("nan")}, {"codes": np.zeros((1, 3), np.uint8)}),
        ({"ask": 1, "within_ms": 10**400}, {"codes": np.zeros((1, 3), np.uint8)}),
        ({"ask": 1}, {"codes": np.zeros((1, 4), np.uint8)}),
        ({"ask": 1}, {"codes": np.zeros((0, 3), np.uint8)}),
        ({"ask": 1}, {"codes": np.zeros(3, np.float32)}),
        ({"ask": 1}, {}),
        ({"ask": 1, "try": 1}, {"codes": np.zeros((1, 3), np.uint8)}),
    ],
    ids=range(8),
)
def test_an_image_of_another_kind_is_refused(header: Any, arrays: Any) -> None:
    said: list[str] = []
    with serving(served(1, 2), said) as server:
        connection = a_peer(server.address).connect()
        connection.send(header, arrays, seconds=LONG_S)
        with pytest.raises(PeerError, match="is lost"):
            connection.receive(seconds=LONG_S)
    assert "asks for something else than an image of 3 bytes" in said[0]


SCORES = {"scores": np.zeros(3, np.float32)}
REPLY = {"answer": 1, "exit": 2, "reason": "last", "took_ms": 1, "sent_bytes": [], "note": ""}


@pytest.mark.parametrize(
    ("header", "arrays", "told"),
    [
        (REPLY, SCORES, None),
        ({**REPLY, "exit": 0}, SCORES, "something else than 3 scores of a later exit"),
        ({**REPLY, "exit": 3}, SCORES, "something else"),
        ({**REPLY, "reason": "because"}, SCORES, "something else"),
        ({**REPLY, "sent_bytes": [1, 2, 3]}, SCORES, "something else"),
        ({**REPLY, "took_ms": None}, SCORES, "something else"),
        (REPLY, {"scores": np.zeros(2, np.float32)}, "something else"),
        (REPLY, {}, "something else"),
        ({"answer": 1, "failed": "no \x1b[31mroom\n"}, {}, r"no  \[31mroom "),
        (REPLY, {"scores": np.zeros(100, np.float32)}, "sends what is no message"),
    ],
    ids=range(10),
)
def test_an_answer_of_another_kind_is_a_lost_peer(header: Any, arrays: Any, told: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with met(listening) as connection:
                connection.receive(seconds=LONG_S)
                connection.send(header, arrays, seconds=LONG_S)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = listening.getsockname()
        found = a_runner(a_peer(Address(host=host, port=port))).run(IMAGE)
        thread.join()
    if told is None:
        assert (found.exit, found.reason, found.note) == (2, "last", "")
    else:
        assert (found.exit, found.reason) == (0, "peer lost")
        assert re.search(told, found.note)


def test_who_closed_the_connection_is_connected_again_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for images in (1, 1):
                with met(listening) as connection:
                    for _ in range(images):
                        header, _ = connection.receive(seconds=LONG_S)
                        reply = {**REPLY, "answer": header["ask"]}
                        connection.send(reply, SCORES, seconds=LONG_S)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = listening.getsockname()
        runner = a_runner(a_peer(Address(host=host, port=port), retry_s=60.0))
        assert [runner.run(IMAGE).reason for _ in range(2)] == ["last", "last"]
        thread.join()


def test_who_closed_the_connection_and_is_silent_then_is_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with met(listening) as connection:
                connection.receive(seconds=LONG_S)
                connection.send(REPLY, SCORES, seconds=LONG_S)
                connection.receive(seconds=LONG_S)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = listening.getsockname()
        peer = a_peer(Address(host=host, port=port), retry_s=60.0)
        runner = a_runner(peer)
        assert runner.run(IMAGE).reason == "last"
        peer.timeout_s = SOON_S
        assert runner.run(IMAGE).reason == "no reply"  # sent, closed, and no welcome afterwards
        thread.join()
        assert runner.run(IMAGE).reason == "peer lost"
        listening.setblocking(False)
        listening.accept()[0].close()  # it was connected once more, and not for the third image
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_failure_that_comes_too_late_is_not_of_the_next_image() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with met(listening) as connection:
                for _ in range(2):
                    connection.receive(seconds=LONG_S)
                connection.send({"answer": 1, "failed": "no room"}, seconds=LONG_S)
                connection.send({**REPLY, "answer": 2}, SCORES, seconds=LONG_S)

        thread = threading.Thread(target=answer)
        thread.start()
        host, port = listening.getsockname()
        peer = a_peer(Address(host=host, port=port))
        runner = a_runner(peer)
        assert runner.run(IMAGE, deadline_ms=1000 * SOON_S).reason == "deadline"
        assert (found := runner.run(IMAGE)).reason == "last", found.note
        thread.join()
        peer.close()


def test_a_peer_that_there_was_no_time_to_ask_is_not_lost() -> None:
    with serving(served(1, 2)) as server:
        peer = a_peer(server.address, retry_s=60.0)
        peer.connect()
        known = dict(IMAGE)
        stages()[0].run(known)
        with pytest.raises(PeerError, match="no time left to ask") as caught:
            peer.ask(known, within_ms=0.0)
        assert caught.value.timed_out
        assert peer.ask(known, within_ms=1000 * LONG_S).reason == "last"
        peer.close()


def test_a_message_that_has_begun_is_waited_for_as_one() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as theirs,
        listening.accept()[0] as ours,
    ):
        connection = Connection(ours, who="asks", largest=0)
        first, second = message({"number": 1}), message({"number": 2})
        theirs.sendall(first + second[:5])
        assert connection.receive(seconds=LONG_S)[0] == {"number": 1}
        theirs.sendall(second[5:])
        # There is a part of it: what counts is the time for the rest.
        assert connection.receive(seconds=LONG_S, begin_seconds=0.0)[0] == {"number": 2}


def test_arrays_of_other_types_are_not_taken() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as theirs,
        listening.accept()[0] as ours,
    ):
        connection = Connection(ours, who="asks", largest=100)
        theirs.sendall(message(HELLO, {"codes": np.zeros(1, np.int64)}))
        with pytest.raises(PeerError, match="asks: sends what is no message .*array 'codes' of <i"):
            connection.receive(seconds=LONG_S)


def test_no_more_connections_are_answered_than_allowed() -> None:
    with serving(served(1, 2)) as server:
        peers = [a_peer(server.address) for _ in range(MOST_CONNECTIONS)]
        for peer in peers:
            peer.connect()
        with pytest.raises(PeerError, match="is lost"):
            a_peer(server.address).connect()
        for peer in peers:
            peer.close()
        assert server.counts.refused == 1


def test_a_port_that_is_taken_is_told() -> None:
    with (
        serving(served(1, 2)) as server,
        pytest.raises(UsageError, match=r"--listen 127.0.0.1:\d+: Address already in use"),
    ):
        StageServer(server.address, served(1, 2))
    with pytest.raises(UsageError, match="--listen 192.0.2.1:0"):
        StageServer(replace(LOOPBACK, host="192.0.2.1"), served(1, 2))


@pytest.mark.parametrize(
    "text",
    ["", "9000", "host", "host:", ":9000", "host:x", "host:65536", "a..b:1", f"{'x' * 64}:1"],
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="--next .* is no address; write HOST:PORT"):
        parse_address(text, "--next")


def test_addresses_are_read_as_they_are_written() -> None:
    for text in ("127.0.0.1:9000", "board.local:0", "[::1]:65535"):
        assert str(parse_address(text, "--next")) == text


class Names:
    """A name server that answers when it is let, with what the system says of the loopback."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers, self.asked, self._look = threading.Event(), [], socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._found)

    def _found(self, host: str, port: int, **how: Any) -> Any:
        self.asked.append(host)
        self.answers.wait(LONG_S)
        return self._look("127.0.0.1", port, **how)


def test_a_name_is_looked_up_no_longer_than_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(served(1, 2)) as server:
        names = Names(monkeypatch)
        peer = a_peer(Address(host="cloud.example", port=server.address.port), retry_s=0.0)
        for _ in range(2):
            with pytest.raises(
                UnreachableError, match="cloud.example was not looked up within 0.05 s"
            ) as caught:
                peer.connect(seconds=SOON_S)
            assert caught.value.timed_out
        assert a_runner(peer).run(IMAGE, deadline_ms=1000 * SOON_S).exit == 0
        names.answers.set()
        assert a_runner(peer).run(IMAGE).reason == "last"
        assert names.asked == ["cloud.example"]  # what came late was not asked for again
        peer.close()


def test_where_nobody_listens_the_next_place_of_a_name_is_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(served(1, 2)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        look = socket.getaddrinfo
        ports = (closed.getsockname()[1], server.address.port)
        places = [look("127.0.0.1", port, type=socket.SOCK_STREAM)[0] for port in ports]
        places.insert(0, (-9, *places[0][1:]))  # of a family that this system does not have
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        peer = a_peer(Address(host="cloud.example", port=1))
        assert a_runner(peer).run(IMAGE).reason == "last"
        peer.close()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places[:2])
        told = "cloud.example:1: cannot be reached .Connection refused"
        with pytest.raises(UnreachableError, match=told):
            peer.connect()


def test_a_name_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UnreachableError, match="gone:1: cannot be reached .Name or service"):
        a_peer(Address(host="gone", port=1)).connect()


def test_headers_are_short() -> None:
    codes = {"codes": np.zeros((1, 3), np.uint8)}
    ask = message({"ask": 10**6, "within_ms": 1.2345678901234567}, codes)
    assert len(ask) < 120 and json.loads(ask[8:-3])["ask"] == 10**6

"""Processes that meet before they train together: here threads, each with a cluster of its own."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_quant.errors import KerasQuantError, RunError, UsageError
from keras_quant.training.rendezvous import Cluster, cluster_of, meet

TWO = ("a:2222", "b:2223")


def _free(count: int) -> tuple[str, ...]:
    """Addresses of this machine at which nobody listens."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = tuple(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    for each in sockets:
        each.close()
    return found


def _meet(*those: tuple[Cluster, Mapping[str, str]], seconds: float = 10.0) -> list[str]:
    """Lets some meet. Returns: what each says of it, "" where all were well."""

    def one(cluster: Cluster, asked: Mapping[str, str]) -> str:
        try:
            meet(cluster, asked, timeout_seconds=seconds)
        except KerasQuantError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(those)) as pool:
        return list(pool.map(lambda each: one(*each), those))


def _cluster(workers: tuple[str, ...], worker: int) -> Cluster:
    return Cluster(workers=workers, worker=worker)


def test_three_that_were_asked_for_the_same_meet_and_leave_their_addresses_free() -> None:
    workers = _free(3)
    assert _meet(*((_cluster(workers, k), {"epochs": "3"}) for k in range(3))) == ["", "", ""]
    for address in workers:
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", int(address.rpartition(":")[2])))


def test_one_that_does_not_come_is_named() -> None:
    workers = _free(3)
    said = _meet(*((_cluster(workers, k), {}) for k in (0, 2)), seconds=0.8)
    for text in said:
        assert f"worker 1 ({workers[1]}): no answer within 0.8 s" in text


def test_other_options_are_named_on_both_sides() -> None:
    workers = _free(2)
    first, second = _meet(
        (_cluster(workers, 0), {"epochs": "3", "seed": "0"}),
        (_cluster(workers, 1), {"epochs": "4", "seed": "0"}),
    )
    assert (
        first == f"worker 1 ({workers[1]}) was started with other options: epochs 4 there, 3 here"
    )
    assert "worker 0" in second and "epochs 3 there, 4 here" in second


def test_other_lists_of_workers_are_named() -> None:
    workers = _free(2)
    first, second = _meet(
        (_cluster(workers, 0), {}), (_cluster((*workers[:2], "127.0.0.1:9"), 1), {})
    )
    assert "another process names workers" in first and "127.0.0.1:9" in first + second


def test_two_of_one_number_are_named() -> None:
    workers = _free(2)
    with socket.socket() as taken:
        taken.bind(("", int(workers[1].rpartition(":")[2])))
        taken.listen()
        with pytest.raises(RunError, match="cannot listen there: .* Is another worker"):
            meet(_cluster(workers, 1), {}, timeout_seconds=1)


def test_strangers_are_not_taken_for_workers() -> None:
    workers = _free(2)

    def stranger() -> str:
        host, _, port = workers[0].rpartition(":")
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"asked": 3}\n', b"\xff\n"):
            for _ in range(50):
                try:
                    with socket.create_connection((host, int(port)), 1) as other:
                        other.sendall(said)
                        break
                except OSError:
                    continue
        return ""

    with ThreadPoolExecutor(1) as pool:
        visit = pool.submit(stranger)
        (said,) = _meet((_cluster(workers, 0), {}), seconds=1.0)
        visit.result()
    assert "worker 1" in said and "no answer" in said


def _config(**changed: object) -> str:
    plain = {"cluster": {"worker": list(TWO)}, "task": {"type": "worker", "index": 1}}
    return json.dumps({**plain, **changed})


def test_tf_config_is_read() -> None:
    assert cluster_of((), None, _config()) == _cluster(TWO, 1)
    with_chief = _config(cluster={"chief": ["a:2222"], "worker": ["b:2223"]})
    index = with_chief.replace('"index": 1', '"index": 0')
    assert cluster_of((), None, index) == _cluster(TWO, 1)
    assert cluster_of(TWO, 0, None) == _cluster(TWO, 0)


@pytest.mark.parametrize(
    ("workers", "worker", "tf_config", "says"),
    [
        ((), None, None, "give each process --workers HOST:PORT,HOST:PORT"),
        (TWO, 0, _config(), "both name workers"),
        (TWO, None, None, "give both"),
        ((), 1, None, "give both"),
        (TWO, 2, None, "--worker is 2; 0 to 1 is allowed"),
        (("a:2222",), 0, None, "two or more different addresses"),
        (("a:2222", "a:2222"), 0, None, "two or more different addresses"),
        (("a:2222", "b"), 0, None, "'b' is no HOST:PORT"),
        (("a:2222", "b:70000"), 0, None, "'b:70000' is no HOST:PORT"),
        ((), None, "{", "TF_CONFIG cannot be read; write it as"),
        ((), None, "[1]", "TF_CONFIG cannot be read; write it as"),
        ((), None, _config(task={"type": "worker"}), "TF_CONFIG cannot be read"),
        ((), None, _config(task={"type": "ps", "index": 0}), "task 'ps'"),
        ((), None, _config(cluster={"worker": list(TWO), "ps": ["c:1"]}), "names ps; tasks here"),
        ((), None, _config(task={"type": "worker", "index": 2}), "there are 2, counted from 0"),
        ((), None, _config(task={"type": "worker", "index": "1"}), "write a whole number"),
        ((), None, _config(cluster={"worker": ["a:1", 3]}), "3 is no HOST:PORT"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(
    workers: tuple[str, ...], worker: int | None, tf_config: str | None, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        cluster_of(workers, worker, tf_config)

"""Points of a sweep on the nodes of a Ray cluster; a script stands in for kq, see test_sweep."""

from __future__ import annotations

import contextlib
import socket
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import RunError, UsageError
from keras_quant.jobs import sweep as sweeping
from keras_quant.jobs import sweep_ray
from keras_quant.jobs.sweep import Status, sweep
from keras_quant.jobs.sweep_plan import SweepSettings
from keras_quant.jobs.sweep_ray import RayEngine, Resources, parse_resources
from keras_quant.runs import records
from tests.jobs.test_sweep import NAMES, ROOT, SETTINGS, STAND_IN, calls, names

ray = pytest.importorskip("ray")
slow = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "kq.py"
    script.write_text(textwrap.dedent(STAND_IN))
    monkeypatch.setattr(sweeping, "KQ", (sys.executable, str(script)))
    (tmp_path / "sweep").mkdir()
    return tmp_path / "sweep"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of a core each, on this machine."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # for what runs on the nodes
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other tests may need all memory
        node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
        two = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        two.add_node(**node)
        yield two
        ray.shutdown()
        two.shutdown()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(name: str) -> bool:
    def words(process: Path) -> bytes:
        with contextlib.suppress(OSError):  # it has ended
            return process.read_bytes()
        return b""

    wanted = f"--name\0{name}\0".encode()
    return any(wanted in words(process) for process in Path("/proc").glob("[0-9]*/cmdline"))


@slow
def test_what_a_cluster_cannot_give_is_told(
    folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match=r"no node has .* \(CPU 99\); nodes have: CPU 1; CPU 1"):
        RayEngine(cluster.address, Resources(cpu=99))
    monkeypatch.setattr(sweep_ray, "__version__", "0.0")  # in this process, not on the nodes
    engine = RayEngine(cluster.address, Resources())
    try:
        process = engine.start([sys.executable, "-c", ""], folder / "log")
        with pytest.raises(RunError, match=r"has keras_quant .*, and the sweep 0\.0"):
            while process.poll() is None:
                pass
        process.kill()
    finally:
        engine.close()


@slow
def test_a_point_whose_node_is_lost_goes_on_on_another(folder: Path, cluster: Any) -> None:
    held = ["qkeras-w4a4", "ptq-w4a4"]
    for name in held:
        (folder / f".wait-{name}").touch()
    killed = []

    def show(status: Status) -> None:
        begun = [n for n in held if (folder / n / records.FILE_NAME).exists()]
        if len(begun) == 2 and not killed:  # one on each node
            killed.append(True)
            cluster.remove_node(list(cluster.worker_nodes)[0], allow_graceful=False)
        elif killed and (lost := [n for n in held if status.state[n] == "waiting"]):
            wait_until(lambda: not is_running(lost[0]))  # what the lost node had started is ended
            for name in held:
                (folder / f".wait-{name}").unlink(missing_ok=True)

    engine = RayEngine(cluster.address, Resources())
    settings = SweepSettings(bits=SETTINGS.bits, methods=SETTINGS.methods, jobs=2)
    try:
        record = sweep(settings, folder, engine=engine, show=show)
    finally:
        engine.close()
    assert killed and sorted(record.results) == sorted(NAMES)
    assert not any(result.error for result in record.results.values())
    assert all(records.load(folder / name).status == "exported" for name in NAMES)
    twice = [name for name in NAMES if names(folder).count(name) == 2]
    assert len(names(folder)) == len(NAMES) + 1 and twice[0] in held
    again = [call for call in calls(folder) if twice[0] in call][1]
    assert "--resume" in again or "--overwrite" in again


@slow
def test_a_server_that_is_no_cluster_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_ray, "_ANSWER_SECONDS", 4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RunError, match=f"--address {address}: no Ray cluster answers there"):
            RayEngine(address, Resources())


def test_an_address_where_nothing_is_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(RunError, match=f"--address {address}: no Ray cluster answers there"):
        RayEngine(address, Resources())
    for address in ("head", ":1", "head:", "head:x", "head:99999"):
        with pytest.raises(UsageError, match=f"--address '{address}': write HOST:PORT"):
            RayEngine(address, Resources())


def test_resources_are_read() -> None:
    assert parse_resources("", cpu=2) == Resources(cpu=2)
    assert parse_resources("cpu=4, gpu=0.5,fast=1", cpu=2) == Resources(
        cpu=4, gpu=0.5, others={"fast": 1}
    )
    assert parse_resources("CPU=3,GPU=2", cpu=1) == Resources(cpu=3, gpu=2)
    wrong = ("cpu", "cpu=", "cpu=x", "gpu=0", "gpu=-1", "=1", "cpu=inf", "cpu=nan", "cpu=1e-5")
    for text in (*wrong, "cpu=1,CPU=2"):
        with pytest.raises(UsageError, match="is no NAME=NUMBER of 0.0001 or more"):
            parse_resources(text, cpu=1)
    with pytest.raises(UsageError, match="of GPUs, a share of one or a whole number"):
        parse_resources("gpu=1.5", cpu=1)


@pytest.mark.parametrize(("cpu", "threads"), [(4, 4), (2.5, 2), (0.5, 1)])
def test_a_point_computes_with_the_processors_that_it_holds(
    cpu: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: None)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 8}}])
    assert RayEngine(None, Resources(cpu=cpu)).threads(8) == threads


def test_resources_that_ray_refuses_are_told() -> None:
    with pytest.raises(UsageError, match="--resources: Ray refuses them: .*TPU"):
        RayEngine("127.0.0.1:1", Resources(others={"TPU": 3}))


class AskedError(Exception):
    """Ends a connection before it is made."""


@pytest.mark.parametrize(("address", "wanted"), [(None, "local"), ("auto", "auto")])
def test_a_cluster_is_joined_only_where_it_is_named(
    address: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: Any) -> None:
        raise AskedError(options["address"])

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(AskedError, match=f"^{wanted}$"):
        RayEngine(address, Resources())

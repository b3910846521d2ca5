"""A bundle on a board that is an SSH server of this process, whose trtexec replays recordings."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

asyncssh = pytest.importorskip("asyncssh")

from keras_quant.bench import records, remote  # noqa: E402
from keras_quant.bench.ssh import FOLDER, Host, parse_host  # noqa: E402
from keras_quant.cli.main import main  # noqa: E402
from keras_quant.errors import MissingDependencyError, UsageError  # noqa: E402
from keras_quant.graph.passes.realize.realize import realize  # noqa: E402
from keras_quant.jobs.board import bench_on_board  # noqa: E402
from tests.bench.boards import SOME_LAYERS  # noqa: E402
from tests.bench.test_results import make_board  # noqa: E402
from tests.emit.bundle.test_make import bundle_of  # noqa: E402
from tests.emit.random_graphs import small_classifier  # noqa: E402

ROOT = Path(__file__).parents[2]
RUN_KQ = "from keras_quant.cli.main import main; main(prog_name='kq')"
SECONDS = 60
# Answers samples, too.
ANSWERS = """
for option in "$@"; do
    case $option in
        --saveEngine=*) echo engine > "${option#*=}" ;;
        --exportOutput=*) cp "$here/${option##*/}" "${option#*=}" ;;
    esac
done
"""


@dataclass
class Board:
    """A server, and the folders that stand for a board.

    Attributes:
        home: of its user.
        programs: trtexec and others.
        address: for --host.
        commands: that it was asked to run.
    """

    home: Path
    programs: Path
    port: int = 0
    commands: list[str] = None  # type: ignore[assignment]

    @property
    def address(self) -> str:
        return f"someone@127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        (found,) = (self.home / FOLDER).iterdir()
        return found

    def calls(self) -> int:
        """How often trtexec was called."""
        log = self.programs / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def running(self) -> list[str]:
        """Processes with the board's programs, or in its folders."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                inside = os.readlink(entry.parent / "cwd").startswith(str(self.home))
            except OSError:
                continue
            if str(self.programs) in line or inside:
                found.append(line)
        return found


class Server(threading.Thread):
    """Serves a board until it is stopped."""

    def __init__(self, board: Board, host_key: Any, client_keys: str) -> None:
        super().__init__(daemon=True)
        self._board, self._key, self._client_keys = board, host_key, client_keys
        self._loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.connections: list[Any] = []

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._listen())
        self.ready.set()
        self._loop.run_forever()

    def stop(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(10)

    def cut(self) -> None:
        """Drops all connections, as a cable that is pulled."""
        for connection in self.connections:
            self._loop.call_soon_threadsafe(connection.abort)

    async def _listen(self) -> None:
        kept = self.connections

        class Kept(asyncssh.SSHServer):
            def connection_made(self, connection: Any) -> None:
                kept.append(connection)

        listener = await asyncssh.create_server(
            Kept,
            "127.0.0.1",
            0,
            server_host_keys=[self._key],
            authorized_client_keys=self._client_keys,
            process_factory=self._process,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=self._board.home),
            encoding=None,
        )
        self._board.port = listener.get_port()

    async def _process(self, process: Any) -> None:
        self._board.commands.append(process.command)
        environment = {
            **os.environ,
            "PATH": f"{self._board.programs}:{os.environ['PATH']}",
            "TRTEXEC": str(self._board.programs / "trtexec"),
        }
        pipe = asyncio.subprocess.PIPE
        shell = await asyncio.create_subprocess_shell(
            process.command,
            cwd=self._board.home,
            env=environment,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        ended = asyncio.ensure_future(shell.wait())
        lost = asyncio.ensure_future(process.wait_closed())
        try:
            # A connection that is gone by now is not told of by an error alone.
            await process.redirect(stdin=shell.stdin, stdout=shell.stdout, stderr=shell.stderr)
            await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not ended.done():
                shell.stdin.close()  # as sshd does
        process.exit(await ended)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    graph = realize(small_classifier().graph()).graph
    (name,) = graph.inputs
    values = np.random.default_rng(0).random((2, *graph.tensors[name].shape), np.float32)
    (tmp_path / "bundle").mkdir()
    bundle_of(graph, tmp_path / "bundle", samples={name: values})
    return tmp_path / "bundle"


@pytest.fixture
def board(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A board that answers as the model does, which this user knows."""
    board = Board(home=tmp_path / "home", programs=make_board(tmp_path / "bin"), commands=[])
    board.home.mkdir()
    with open(board.programs / "trtexec", "a") as script:
        script.write(ANSWERS)
    (expected,) = (bundle / "samples").glob("*.expected.npy")
    output = expected.name.removesuffix(".expected.npy")
    codes = np.load(bundle / "samples" / "codes.npz")
    layers = json.loads((bundle / "manifest.json").read_text())["proof"]["layers"]
    for index, logits in enumerate(np.load(expected)):
        tensors = {output: logits} | {
            layer["tensor"]: codes[layer["codes"]][index] for layer in layers
        }
        items = [
            {
                "name": name,
                "dimensions": "x".join(map(str, (1, *values.shape))),
                "values": values.ravel().tolist(),
            }
            for name, values in tensors.items()
        ]
        (board.programs / f"{index}.json").write_text(json.dumps(items))
    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    (tmp_path / "authorized_keys").write_bytes(client_key.export_public_key())
    server = Server(board, host_key, str(tmp_path / "authorized_keys"))
    server.start()
    assert server.ready.wait(10)
    ssh = tmp_path / "user" / ".ssh"
    ssh.mkdir(parents=True)
    client_key.write_private_key(ssh / "id_ed25519")
    (ssh / "id_ed25519").chmod(0o600)
    public = host_key.export_public_key().decode()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{board.port} {public}")
    monkeypatch.setenv("HOME", str(ssh.parent))
    board.server = server  # type: ignore[attr-defined]
    yield board
    server.stop()


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def wait_until(what: Any) -> None:
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_bundle_is_built_measured_and_recorded(board: Board, bundle: Path) -> None:
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 0, result.output
    assert "the engine answers as the model does" in result.stderr
    record = records.load(bundle / "bench.json")
    assert record.machine.board["host"] == "127.0.0.1"
    assert [one.kind for one in record.measurements] == ["enqueued", "latency"]
    assert [one.images_per_s for one in record.measurements] == [500, 400]
    assert record.measurements[0].file == str(bundle / "model.onnx")
    assert "EXACT: every code is the model's" in result.stderr
    assert "proof on the board: EXACT: every code is the model's" in record.measurements[0].notes
    assert board.calls() == 1 + 2 + 1 + 2 + 3  # build, samples, probe, samples, bench.sh
    assert board.running() == []


def test_folders_in_what_a_board_leaves_are_not_fetched(board: Board, bundle: Path) -> None:
    script = bundle / "bench.sh"
    script.write_text(f"{script.read_text()}\nmkdir results/more\n")
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 0, result.output


def test_no_name_comes_into_a_command(board: Board, bundle: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a $(touch hurt); b"
    bundle.rename(odd)
    (odd / "samples" / "x; touch hurt").write_text("")
    bench_on_board(odd, board.address)
    assert [command.split("/")[-1] for command in board.commands] == [
        "run.sh build.sh",
        "run.sh prove.sh",
        "run.sh bench.sh",
    ]
    key = board.folder.name
    assert set(key) <= set("0123456789abcdef")
    assert all(c.startswith(f"exec sh {FOLDER}/{key}/run.sh ") for c in board.commands)
    assert not list(tmp_path.rglob("hurt"))


@pytest.mark.slow
def test_an_engine_is_built_once(board: Board, bundle: Path) -> None:
    said: list[str] = []
    bench_on_board(bundle, board.address)
    bench_on_board(bundle, board.address, say=said.append)
    assert "the engine that was built of this bundle before is used again" in said
    assert not any("copying" in text for text in said)
    assert board.calls() == 9 + 3
    bench_on_board(bundle, board.address, rebuild=True)
    assert board.calls() == 12 + 9


def test_an_engine_that_answers_otherwise_is_not_recorded(board: Board, bundle: Path) -> None:
    answer = board.programs / "0.json"
    items = json.loads(answer.read_text())
    items[0]["values"][0] += 1e3
    answer.write_text(json.dumps(items))
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 3
    assert "THE ENGINE ANSWERS OTHERWISE" in result.stderr
    assert not (bundle / "bench.json").exists()


def test_codes_that_are_others_are_not_recorded(board: Board, bundle: Path) -> None:
    answer = board.programs / "1.json"
    items = json.loads(answer.read_text())
    items[1]["values"] = [value + 1 for value in items[1]["values"]]
    answer.write_text(json.dumps(items))
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 3
    assert "THE CODES ARE OTHERS" in result.stderr
    assert not (bundle / "bench.json").exists()


def test_a_folder_that_is_copied_back_is_proven_and_shown(
    board: Board, bundle: Path, tmp_path: Path
) -> None:
    """docs/jetson.md, steps 3 and 4: the scripts, without kq's help, and what is read here."""
    here = tmp_path / "copied"
    shutil.copytree(bundle, here)
    environment = {**os.environ, "TRTEXEC": str(board.programs / "trtexec")}
    path = {"PATH": f"{board.programs}:{os.environ['PATH']}"}
    said = [
        subprocess.run(
            ["sh", here / script],
            env={**environment, **path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for script in ("build.sh", "prove.sh", "bench.sh")
    ]
    assert said == [
        "model.engine has answered 2 samples; now: python3 compare.py",
        "probe.engine has answered 2 samples; now: python3 compare.py",
        "all of it: results; where keras_quant is: kq import-results FOLDER",
    ]
    result = kq("import-results", here)
    assert result.exit_code == 0, result.output
    assert "EXACT: every code is the model's" in result.stderr
    (note,) = records.load(here / "bench.json").measurements[0].notes[-1:]
    assert note == "proof on the board: EXACT: every code is the model's"
    # The recorded file names a layer that is not described, as an engine without details.
    assert "tells only the names of 1 layers" in kq("engine", here).stderr
    (here / "results" / "layers.json").write_text(
        json.dumps({"Layers": [json.loads(SOME_LAYERS)["Layers"][0]], "Bindings": ["x"]})
    )
    told = kq("engine", here)
    assert told.exit_code == 1
    assert "tells of 1 layers that the engine has not, as 'Reformatting CopyNode" in told.stderr
    shown = kq("engine", here / "results" / "layers.json", "--out", here / "engine.svg")
    assert shown.exit_code == 0, shown.output
    assert "conv1" in shown.stdout and (here / "engine.svg").is_file()


def test_a_folder_with_other_codes_makes_no_record(
    board: Board, bundle: Path, tmp_path: Path
) -> None:
    assert kq("bench", bundle, "--host", board.address).exit_code == 0
    here = tmp_path / "copied"
    shutil.copytree(board.folder, here)
    path = here / "proof" / "0.json"
    items = json.loads(path.read_text())
    items[1]["values"] = [value + 1 for value in items[1]["values"]]
    path.write_text(json.dumps(items))
    result = kq("import-results", here)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "first layer" in result.stderr and "THE CODES ARE OTHERS" in result.stderr
    assert not (here / "bench.json").exists()
    path.write_text("{")
    result = kq("import-results", here)
    assert result.exit_code == 1
    assert "the engine's answers cannot be read" in result.stderr


def test_a_script_that_fails_shows_why(board: Board, bundle: Path) -> None:
    (board.programs / "trtexec").write_text("#!/bin/sh\necho no such GPU\nexit 1\n")
    result = kq("bench", bundle, "--host", board.address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "build.sh failed on the board with exit code 1" in result.stderr
    assert "no such GPU | trtexec failed: build.log" in result.stderr
    assert not (bundle / "bench.json").exists()
    assert not (board.folder / "engine.done").exists()


def test_a_bundle_whose_script_leaves_no_results_is_told(board: Board, bundle: Path) -> None:
    (bundle / "bench.sh").write_text("echo done\n")
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 1
    assert "left no folder results on the board: the bundle was written by an" in result.stderr


def test_an_unknown_host_key_is_refused(board: Board, bundle: Path) -> None:
    known = Path(os.environ["HOME"]) / ".ssh" / "known_hosts"
    known.write_text("")
    for _ in range(2):
        result = kq("bench", bundle, "--host", board.address)
        assert result.exit_code == 1
        assert "its host key is not in ~/.ssh/known_hosts, or is another one" in result.stderr
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
        known.write_text(f"[127.0.0.1]:{board.port} {other}")
    assert board.commands == []
    assert not (board.home / FOLDER).exists()


def test_a_key_that_the_board_does_not_take_is_told(board: Board, bundle: Path) -> None:
    path = Path(os.environ["HOME"]) / ".ssh" / "id_ed25519"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(path)
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 1
    assert "127.0.0.1: refuses to log in" in result.stderr and "ssh-copy-id" in result.stderr


def hang(board: Board) -> None:
    """Makes trtexec hang, in a process of its own."""
    (board.programs / "trtexec").write_text(
        f"#!/bin/sh\necho x >> {board.programs}/calls\nsh -c 'sleep 600; : {board.programs}'\n"
    )


@pytest.mark.slow
def test_nothing_runs_on_where_the_connection_is_lost(board: Board, bundle: Path) -> None:
    hang(board)
    cutter = threading.Thread(
        target=lambda: (wait_until(board.calls), board.server.cut())  # type: ignore[attr-defined]
    )
    cutter.start()
    result = kq("bench", bundle, "--host", board.address)
    cutter.join()
    assert result.exit_code == 1
    assert "127.0.0.1: cannot be reached, or was lost" in result.stderr
    assert not (bundle / "bench.json").exists()
    wait_until(lambda: board.running() == [])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_nothing_runs_on_where_kq_is_stopped(
    board: Board, bundle: Path, number: signal.Signals
) -> None:
    hang(board)
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_KQ, "bench", str(bundle), "--host", board.address],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(board.calls)
    assert board.running()
    process.send_signal(number)
    out, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (128 + number, "")
    assert "Traceback" not in said
    assert not (bundle / "bench.json").exists()
    wait_until(lambda: board.running() == [])


@pytest.mark.slow
def test_a_script_that_takes_too_long_is_stopped(
    board: Board, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang(board)
    monkeypatch.setattr(remote, "BUILD_SECONDS", 0.5)
    result = kq("bench", bundle, "--host", board.address)
    assert result.exit_code == 1
    assert "build.sh took longer than 0 s, and was stopped" in result.stderr
    wait_until(lambda: board.running() == [])


def test_a_board_that_is_not_there_is_told(bundle: Path) -> None:
    result = kq("bench", bundle, "--host", "someone@127.0.0.1:1")
    assert result.exit_code == 1
    assert "127.0.0.1: cannot be reached, or was lost" in result.stderr


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("board", Host(name="board")),
        ("me@board", Host(name="board", user="me")),
        ("me@board:2222", Host(name="board", user="me", port=2222)),
    ],
)
def test_hosts_are_read(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    "text", ["", "@board", "me@", "board:x", "board:70000", "board:0", "me@board:"]
)
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no host; write user@board"):
        parse_host(text)


def test_bad_arguments_are_explained(bundle: Path, tmp_path: Path) -> None:
    result = kq("bench", bundle, "--host", "board", "--threads", "2", "--profile")
    assert result.exit_code == 2
    assert "leave out --threads, --profile" in result.stderr
    result = kq("bench", tmp_path, "--host", "board")
    assert result.exit_code == 2
    assert "is no bundle; --host takes one" in result.stderr


def test_without_asyncssh_the_other_way_is_told(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with pytest.raises(MissingDependencyError, match=r"keras_quant\[jetson\].*kq import-results"):
        bench_on_board(bundle, "board")

"""A board that is OpenSSH's own server on this machine, where that is installed."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

asyncssh = pytest.importorskip("asyncssh")

from keras_quant.bench import records  # noqa: E402
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.graph.passes.realize.realize import realize  # noqa: E402
from tests.bench.test_remote import ROOT, RUN_KQ, SECONDS, kq, wait_until  # noqa: E402
from tests.emit.random_graphs import small_classifier  # noqa: E402

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
SFTP = Path("/usr/lib/openssh/sftp-server")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SSHD or not SFTP.exists(), reason="openssh-server is not installed"),
]

# What the client asks for runs in the board's home, and finds its programs.
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
UsePAM no
StrictModes no
PidFile none
Subsystem sftp {sftp}
ForceCommand . {folder}/profile && eval "$SSH_ORIGINAL_COMMAND"
"""


@dataclass
class Board:
    """A server. Attributes: address: for --host; home: of the board's user."""

    address: str
    home: Path

    def running(self) -> list[str]:
        """Processes whose folder is in the board's home."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(entry / "cwd").startswith(str(self.home)):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    assert SSHD
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("home", "bin", "user/.ssh"):
        (tmp_path / name).mkdir(parents=True)
    profile = f"cd {tmp_path}/home\nPATH={tmp_path}/bin:$PATH\nexport PATH\n"
    (tmp_path / "profile").write_text(profile)
    python = tmp_path / "bin" / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    host_key, client_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    host_key.write_private_key(tmp_path / "host_key")
    (tmp_path / "host_key").chmod(0o600)
    (tmp_path / "authorized_keys").write_bytes(client_key.export_public_key())
    (tmp_path / "config").write_text(CONFIG.format(port=port, folder=tmp_path, sftp=SFTP))
    ssh = tmp_path / "user" / ".ssh"
    client_key.write_private_key(ssh / "id_ed25519")
    (ssh / "id_ed25519").chmod(0o600)
    public = host_key.export_public_key().decode()
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    monkeypatch.setenv("HOME", str(ssh.parent))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it separates privileges
    server = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(tmp_path / "config")],
        stderr=subprocess.PIPE,
        text=True,
    )

    def answers() -> bool:
        if server.poll() is not None:
            assert server.stderr
            pytest.skip(f"sshd does not start here: {server.stderr.read()[-200:]}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers)
    address = f"{getpass.getuser()}@127.0.0.1:{port}"
    yield Board(address=address, home=tmp_path / "home")
    server.terminate()
    server.wait(SECONDS)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    graph = realize(small_classifier().graph()).graph
    paths = [tmp_path / "model.tflite", tmp_path / "model.onnx"]
    for path, content in zip(paths, (emit_tflite(graph), emit_onnx_x86(graph)), strict=True):
        path.write_bytes(content)
    return paths


def test_files_are_measured_on_the_processor(
    board: Board, files: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "bench.json"
    result = kq(
        *("bench", *files, "--host", board.address, "--runtime", "litert,onnxruntime"),
        *("--duration", "0.05", "--output", out),
    )
    assert result.exit_code == 0, result.output
    record = records.load(out)
    assert [(one.runtime, len(one.loads)) for one in record.measurements] == [
        *(("litert", 8), ("onnxruntime", 8))
    ]
    assert record.machine.board["host"] == "127.0.0.1"
    assert list(board.home.rglob("model.*.partial")) == []
    wait_until(lambda: board.running() == [])


def test_a_board_without_python_is_told(board: Board, files: list[Path]) -> None:
    (board.home.parent / "bin" / "python3").write_text("#!/bin/sh\nexit 127\n")
    result = kq("bench", files[1], "--host", board.address, "--runtime", "onnxruntime")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "the board has no python3" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_runs_on_where_kq_is_stopped(
    board: Board, files: list[Path], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "bench.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", RUN_KQ, "bench", str(files[1]), "--host", board.address),
            *("--runtime", "onnxruntime", "--duration", "600", "--output", str(out)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: any("on_board serve" in line for line in board.running()))
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    assert not out.exists()
    wait_until(lambda: not any("on_board" in line for line in board.running()))

"""Files on a board's own processor; the board is an SSH server of this process."""

# ruff: noqa: F811  # fixtures are imported, and named again by tests

from __future__ import annotations

import ast
import asyncio
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

asyncssh = pytest.importorskip("asyncssh")

from keras_quant.bench import on_board, records, remote_processor, timer  # noqa: E402
from keras_quant.bench.ssh import FOLDER  # noqa: E402
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.errors import ModelError  # noqa: E402
from keras_quant.graph.passes.realize.realize import realize  # noqa: E402
from tests.bench.test_remote import (  # noqa: E402, F401
    ROOT,
    RUN_KQ,
    SECONDS,
    Board,
    board,
    bundle,
    kq,
    wait_until,
)
from tests.emit.random_graphs import small_classifier  # noqa: E402
from tests.runners.test_runners import keep_in  # noqa: E402

QUICK = ("--duration", "0.01")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One net as a TFLite and an ONNX file."""
    folder = tmp_path_factory.mktemp("files")
    graph = realize(small_classifier().graph()).graph
    (folder / "model.tflite").write_bytes(emit_tflite(graph))
    (folder / "model.onnx").write_bytes(emit_onnx_x86(graph))
    return folder


@pytest.fixture(autouse=True)
def with_python(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the board a Python, which has the packages of this one; and hurries."""
    program(board, "python3", f'exec {sys.executable} "$@"')
    monkeypatch.setattr(timer, "WINDOW_NS", 100_000)
    # The board gets the hurried file, too.
    code = remote_processor._code()
    hurried = {
        path: content.replace(b"WINDOW_NS = 20_000_000", b"WINDOW_NS = 100_000")
        for path, content in code.items()
    }
    assert hurried != code
    monkeypatch.setattr(remote_processor, "_code", lambda: hurried)


def program(board: Board, name: str, script: str) -> None:
    path = board.programs / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def running(board: Board) -> list[str]:
    """Processes of the script."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = os.readlink(entry.parent / "cwd")
        except OSError:
            continue
        if on_board.MODULE in line and str(board.home) in folder:
            found.append(line)
    return found


@pytest.mark.slow
def test_the_record_is_as_one_of_this_machine(
    board: Board,
    files: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "bench.json"
    result = kq(
        *("bench", files / "model.tflite", files / "model.onnx", "--host", board.address),
        *("--runtime", "litert,onnxruntime", *QUICK, "--output", out),
    )
    assert result.exit_code == 0, result.output
    record = records.load(out)
    assert [one.runtime for one in record.measurements] == ["litert", "onnxruntime"]
    assert [len(one.loads) for one in record.measurements] == [8, 8]
    assert all(len(load.rounds) == 10 for one in record.measurements for load in one.loads)
    assert record.measurements[0].kernels == ("XNNPACK",)
    litert = importlib.metadata.version("ai-edge-litert")
    assert record.measurements[0].versions == {"ai-edge-litert": litert}
    assert any("QLinearConv" in kernel for kernel in record.measurements[1].kernels)
    assert record.measurements[1].versions.keys() == {"onnxruntime"}
    assert record.measurements[0].memory_peak_bytes > 1e6  # type: ignore[operator]
    assert [(v.name, v.paired) for v in record.verdicts] == [("model.onnx", True)]
    assert record.machine.board["host"] == "127.0.0.1"
    assert record.machine.board["power_mode"] == "25W"
    assert record.machine.environment["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record.machine.load is not None
    assert running(board) == []


@pytest.mark.slow
def test_no_name_comes_into_a_command(board: Board, files: Path, tmp_path: Path) -> None:
    odd = tmp_path / "x; touch hurt.onnx"
    odd.write_bytes(b"no model")
    result = kq("bench", odd, "--host", board.address, "--runtime", "onnxruntime", *QUICK)
    assert result.exit_code == 1
    assert "not an ONNX model" in result.stderr
    odd.write_bytes((files / "model.onnx").read_bytes())
    with remote_processor.BoardProcessor(
        remote_processor.Host(name="127.0.0.1", user="me", port=board.port)
    ) as place:
        place.do(place._copy(odd))
        place.machine()
    (command,) = dict.fromkeys(board.commands)
    folder, _, rest = command.removeprefix(f"cd {FOLDER}/").partition(" ")
    assert set(folder) <= set("0123456789abcdef")
    assert rest == "&& exec python3 -u -m keras_quant.bench.on_board"
    assert not list(tmp_path.rglob("hurt*"))
    assert len(list(board.home.rglob("model.onnx"))) == 1


def test_a_file_without_its_weights_is_not_copied(
    board: Board, files: Path, tmp_path: Path
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(keep_in(onnx.load(files / "model.onnx"), "weights"))
    (tmp_path / "weights").write_bytes(bytes(2**16))
    place = remote_processor.BoardProcessor(remote_processor.Host(name="127.0.0.1"))
    with pytest.raises(ModelError, match="model.onnx: the values of .* lie in other files, which"):
        asyncio.run(place._copy(file))


FAILURES: dict[str, tuple[Callable[[Board], None], str]] = {
    "no Python": (lambda there: program(there, "python3", "exit 127"), "the board has no python3"),
    "a Python that fails": (
        lambda there: program(there, "python3", "echo no disk >&2; sleep 0.2; exit 3"),
        "the script ended on the board with exit code 3: no disk",
    ),
    "a login script that prints": (
        lambda there: program(there, "python3", "echo Welcome"),
        "the board answered 'Welcome",
    ),
    "no runtime": (
        lambda there: program(
            there,
            "python3",
            f'echo \'raise ImportError("not here")\' > onnxruntime.py; exec {sys.executable} "$@"',
        ),
        "has no onnxruntime (not here). Install it on the board: python3 -m pip install --user",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAILURES)
def test_what_is_missing_on_the_board_is_told(
    board: Board,
    files: Path,
    tmp_path: Path,
    name: str,
) -> None:
    break_it, told = FAILURES[name]
    break_it(board)
    out = tmp_path / "bench.json"
    result = kq(
        *("bench", files / "model.onnx", "--host", board.address, "--runtime", "onnxruntime"),
        *(*QUICK, "--output", out),
    )
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not out.exists()
    wait_until(lambda: running(board) == [])


def test_an_unknown_host_key_and_a_wrong_key_are_told(board: Board, files: Path) -> None:
    ssh = Path(os.environ["HOME"]) / ".ssh"
    asked = ("bench", files / "model.onnx", "--host", board.address, "--runtime", "onnxruntime")
    key = (ssh / "id_ed25519").read_bytes()
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(ssh / "id_ed25519")
    assert "127.0.0.1: refuses to log in" in kq(*asked).stderr
    (ssh / "id_ed25519").write_bytes(key)
    (ssh / "known_hosts").write_text("")
    result = kq(*asked)
    assert result.exit_code == 1
    assert "its host key is not in ~/.ssh/known_hosts" in result.stderr
    assert board.commands == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "helpful"),
    [
        (["--host", "me@127.0.0.1:1"], 1, "127.0.0.1: cannot be reached, or was lost"),
        (["--host", "me@"], 2, "'me@' is no host"),
        (
            ["--host", "b", "--runtime", "keras"],
            2,
            "'keras' is not measured on a board; onnxruntim",
        ),
        (["--host", "b", "--profile"], 2, "--profile and --rebuild have no meaning with --host"),
    ],
)
def test_bad_arguments_are_explained(
    files: Path, arguments: list[str], exit_code: int, helpful: str
) -> None:
    runtime = () if "--runtime" in arguments else ("--runtime", "onnxruntime")
    result = kq("bench", files / "model.onnx", *runtime, *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr


def serve(folder: Path) -> subprocess.Popen[str]:
    """The script, as it runs on a board, but here."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", on_board.MODULE],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_runtime_that_refuses_or_dies_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with serve(tmp_path) as script:
        assert script.stdin and script.stdout
        assert json.loads(script.stdout.readline()) == {"ok": "ready"}

        def ask(request: dict[str, object]) -> dict[str, object]:
            print(json.dumps(request), file=script.stdin, flush=True)
            answer: dict[str, object] = json.loads(script.stdout.readline())  # type: ignore[union-attr]
            return answer

        answer = ask({"do": "describe", "runtime": "onnxruntime", "file": "bad.onnx", "inputs": {}})
        assert (answer["kind"], "bad.onnx" in str(answer["error"])) == ("model", True)
        machine = ask({"do": "machine"})["ok"]
        assert "/proc/cpuinfo" in machine["texts"]  # type: ignore[index]
        children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGSEGV)
        assert json.loads(script.stdout.readline())["died"] == -signal.SIGSEGV


def test_the_script_ends_with_its_standard_input(tmp_path: Path) -> None:
    with serve(tmp_path) as script:
        assert script.stdin
        script.stdin.close()
        assert script.wait(SECONDS) == 0


@pytest.mark.parametrize("module", [on_board, timer])
def test_what_is_sent_runs_on_python_3_6(module: object) -> None:
    source = Path(module.__file__).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    tree = ast.parse(source, feature_version=(3, 6))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
        )
    }
    assert imported <= {
        *("gc", "importlib", "json", "os", "platform", "statistics", "subprocess", "sys"),
        *("tempfile", "threading", "time", "typing", "numpy", "onnxruntime", "collections.abc"),
        "keras_quant.bench.timer",
    }
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not keywords & {"strict", "capture_output", "missing_ok", "kw_only", "slots"}
    # Annotations are evaluated there: names of builtin types take no [] before Python 3.9.
    for node in ast.walk(tree):
        for given in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            assert not isinstance(given, (ast.Subscript, ast.BinOp)), ast.dump(given)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_nothing_runs_on_where_kq_is_stopped(
    board: Board,
    files: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    out = tmp_path / "bench.json"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", RUN_KQ, "bench", str(files / "model.onnx"), "--host"),
            *(board.address, "--runtime", "onnxruntime", "--duration", "600", "--output", str(out)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(board.commands) > 3)  # machine, describe, ticks, a load
    wait_until(lambda: running(board))
    process.send_signal(number)
    said_out, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said_out) == (128 + number, "")
    assert "Traceback" not in said
    assert not out.exists()
    wait_until(lambda: running(board) == [])


@pytest.mark.slow
def test_nothing_runs_on_where_the_connection_is_lost(
    board: Board,
    files: Path,
    tmp_path: Path,
) -> None:
    def cut() -> None:
        wait_until(lambda: len(board.commands) > 3)
        wait_until(lambda: running(board))
        board.server.cut()  # type: ignore[attr-defined]

    cutter = threading.Thread(target=cut)
    cutter.start()
    out = tmp_path / "bench.json"
    result = kq(
        *("bench", files / "model.onnx", "--host", board.address, "--runtime", "onnxruntime"),
        *("--duration", "600", "--output", out),
    )
    cutter.join()
    assert result.exit_code == 1
    assert "lost" in result.stderr
    assert not out.exists()
    wait_until(lambda: running(board) == [])

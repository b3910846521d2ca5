from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from tests.fake_runs import make_run


class Netron:
    """Stands for the package: keeps what it was asked, and ends at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, int | None], bool]] = []
        self.waited = 0

    def start(self, file: str, *, address: tuple[str, int | None], browse: bool) -> tuple[str, int]:
        self.asked.append((file, address, browse))
        return address[0], address[1] or 8080

    def wait(self) -> None:
        self.waited += 1


@pytest.fixture
def netron(monkeypatch: pytest.MonkeyPatch) -> Netron:
    stub = Netron()
    imported = importlib.import_module
    monkeypatch.setattr(
        importlib, "import_module", lambda name: stub if name == "netron" else imported(name)
    )
    return stub


def view(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["view", *map(str, arguments)])


def test_run_is_drawn_by_its_tflite_file(tmp_path: Path, netron: Netron) -> None:
    run = make_run(tmp_path / "run", tflite=b"file")
    result = view(run)
    file = run / "export" / "model.tflite"
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{file} at http://localhost:8080\n"
    assert netron.asked == [(str(file), ("localhost", None), True)]
    assert netron.waited == 1


def test_file_is_served_on_the_port_without_a_browser(tmp_path: Path, netron: Netron) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    result = view(file, "--port", 9000, "--no-browser", "--json")
    assert json.loads(result.stdout) == {"file": str(file), "url": "http://localhost:9000"}
    assert netron.asked == [(str(file), ("localhost", 9000), False)]


def test_missing_netron_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_netron(name: str, *rest: Any) -> Any:
        if name == "netron":
            raise ModuleNotFoundError("No module named 'netron'")
        return imported(name, *rest)

    imported = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", without_netron)
    file = tmp_path / "model.tflite"
    file.write_bytes(b"")
    result = view(file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "pip install netron" in result.stderr


def test_taken_port_is_explained(tmp_path: Path, netron: Netron) -> None:
    def taken(*_: object, **__: object) -> tuple[str, int]:
        raise OSError(98, "Address already in use")

    netron.start = taken  # type: ignore[method-assign]
    file = tmp_path / "model.tflite"
    file.write_bytes(b"")
    result = view(file, "--port", 9000)
    assert result.exit_code == 2
    assert "--port 9000: Address already in use. Give another" in result.stderr


@pytest.mark.parametrize(
    ("name", "exit_code", "helpful"),
    [
        ("gone", 1, "no such run or file"),
        ("folder", 1, "not a run folder"),
        ("run", 1, "has no TFLite file yet; write it with kq export"),
        ("model.kqgraph", 2, "kq inspect --graph prints graphs"),
        ("notes.txt", 2, "ends with '.txt'; .tflite, .onnx, .keras, .h5, .hdf5 files are drawn"),
    ],
)
def test_target_that_cannot_be_drawn_is_explained(
    tmp_path: Path, netron: Netron, name: str, exit_code: int, helpful: str
) -> None:
    (tmp_path / "folder").mkdir()
    make_run(tmp_path / "run")
    for file in ("model.kqgraph", "notes.txt"):
        (tmp_path / file).write_bytes(b"")
    result = view(tmp_path / name)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr
    assert netron.asked == []

"""A file's runtime may crash, hang or take all memory, and it is an error that names the file."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import LoweringError, ModelError, UsageError
from keras_quant.runners import child as child_module
from keras_quant.runners.child import Child, ChildRunner, Limits, limits_for
from keras_quant.runners.messages import receive
from tests.runners import stand_ins

FILE = Path("folder/model.onnx")
LIMITS = Limits(seconds=30, memory_bytes=10**9)
STAND_INS = stand_ins.__name__


def ask(function: str, limits: Limits = LIMITS, **arguments: object) -> stand_ins.Returned:
    with Child(FILE, limits) as child:
        return child.call(f"{STAND_INS}:{function}", stand_ins.Returned, **arguments)


def test_what_a_function_returns_comes_back_and_what_it_prints_does_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert ask("returns", number=3) == stand_ins.Returned(file=str(FILE), number=3)
    assert capfd.readouterr() == ("", "")


DEATHS = {
    "crashes": r"died by SIGSEGV \(a parser's last words\)\. The file is damaged, or its runtime",
    "exits": r"died with exit code 3\. The file is damaged, or its runtime cannot take it",
    "fails": r"cannot be read or run \(ZeroDivisionError: by zero\)",
}


@pytest.mark.parametrize(("function", "told"), DEATHS.items(), ids=DEATHS)
def test_a_death_is_an_error_that_names_the_file(function: str, told: str) -> None:
    with pytest.raises(ModelError, match=rf"^folder/model\.onnx: .*{told}"):
        ask(function)


def test_an_error_of_ours_keeps_its_class_and_text() -> None:
    with pytest.raises(LoweringError, match=r"^model\.onnx: refused$"):
        ask("refuses")


@pytest.mark.slow
def test_what_hangs_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(ModelError, match="took longer than 0.5 s, and was stopped.*KQ_CHILD_SEC"):
        ask("hangs", Limits(seconds=0.5, memory_bytes=10**9))
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_what_takes_too_much_memory_is_stopped() -> None:
    with pytest.raises(ModelError, match="took more than 200 MB of memory, .*set KQ_CHILD_MEMORY"):
        ask("takes_memory", Limits(seconds=60, memory_bytes=200 * stand_ins.MEGABYTE))


def test_what_a_dead_runtime_was_writing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ModelError, match="died by SIGSEGV"):
        ask("leaves_a_file")
    assert list(tmp_path.iterdir()) == []


def test_a_module_in_the_current_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert ask("returns", number=1).number == 1


def test_a_child_ends_with_its_runner() -> None:
    runner = ChildRunner(f"{STAND_INS}:Rows", FILE, limits=LIMITS)
    process = runner._child._process
    assert process.poll() is None
    del runner
    assert process.poll() is not None


def test_images_are_sent_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "BATCH_BYTES", 5 * 8)
    images = {"x": np.zeros((12, 2), np.float32)}
    runner = ChildRunner(f"{STAND_INS}:Rows", FILE, limits=LIMITS)
    (rows,) = runner.run(images).values()
    assert (rows.tolist(), rows.dtype) == ([5] * 10 + [2] * 2, np.int16)
    runner = ChildRunner(f"{STAND_INS}:BatchesOfFour", FILE, limits=LIMITS)
    assert runner.run(images)["rows"].tolist() == [8] * 8 + [4] * 4


def test_another_number_of_rows_is_told() -> None:
    runner = ChildRunner(f"{STAND_INS}:OneRowTooMany", FILE, limits=LIMITS)
    with pytest.raises(ModelError, match=r"output 'rows' has shape \(4,\) for 3 images; one row"):
        runner.run({"x": np.zeros((3, 2), np.float32)})


def test_a_runtime_that_dies_of_a_batch_is_told() -> None:
    runner = ChildRunner(f"{STAND_INS}:DiesOfItsFirstBatch", FILE, limits=LIMITS)
    for _ in range(2):  # it stays dead
        with pytest.raises(ModelError, match="model.onnx: the process .* died by SIGABRT"):
            runner.run({"x": np.zeros((3, 2), np.float32)})


def test_limits_grow_with_the_file_or_are_those_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(1000))
    grown = child_module.MEMORY_BYTES + child_module.MEMORY_TIMES * 1000
    assert limits_for(file) == Limits(seconds=child_module.SECONDS, memory_bytes=grown)
    monkeypatch.setenv("KQ_CHILD_SECONDS", "7.5")
    monkeypatch.setenv("KQ_CHILD_MEMORY", "300")
    assert limits_for(file) == Limits(seconds=7.5, memory_bytes=300 * 10**6)
    monkeypatch.setenv("KQ_CHILD_SECONDS", "nan")
    with pytest.raises(UsageError, match="KQ_CHILD_SECONDS is 'nan'; a positive number is needed"):
        limits_for(file)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"[]", "a header that is a list"),
        (b'{"arrays": [["x", "O", [2]]]}', "array 'x' of O"),
        (b'{"arrays": [["x", "<f4", [1000000000]]]}', "array 'x' of <f4"),
        (b'{"arrays": [["x", "<f4", [-1, -1]]]}', "array 'x' of <f4"),
        (None, "a header of 9,223,"),
    ],
)
def test_a_message_that_claims_anything_is_refused(header: bytes | None, told: str) -> None:
    claimed = 2**63 - 1 if header is None else len(header)
    content = memoryview(claimed.to_bytes(8, "big") + (header or b""))

    def read_into(view: memoryview) -> None:
        nonlocal content
        view[:], content = content[: len(view)], content[len(view) :]

    with pytest.raises((ValueError, TypeError), match=told):
        receive(read_into, largest=1000)


def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(2):
        ask("returns", number=1)
    assert descriptors() == before

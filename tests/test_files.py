from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from keras_quant import files
from keras_quant.errors import ModelError, RunError, UsageError
from keras_quant.files import FileError

ROOT = Path(__file__).parents[1]


def test_each_writer_leaves_only_its_file(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "größer")
    files.write_bytes(tmp_path / "b.bin", b"\x00\xff")
    files.write_json(tmp_path / "c.json", {"bits": 4})
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "größer"
    assert (tmp_path / "b.bin").read_bytes() == b"\x00\xff"
    assert json.loads((tmp_path / "c.json").read_text()) == {"bits": 4}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.bin", "c.json"]


def test_failing_block_keeps_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as stream:
        stream.write("new")
        stream.flush()
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".model.tmp-1.keras"
    left.touch()

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", refuse)
    told = r"tmp-1\.keras: not removed: Read-only file system. That disk is mounted read-only"
    with pytest.raises(FileError, match=told):
        files.sweep(tmp_path)
    with pytest.raises(FileError, match=told):
        files.remove(left)


def test_new_content_is_invisible_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    with files.atomic_write(path) as stream:
        stream.write("new")
        stream.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", ["model.keras", "weights.h5", "noext"])
def test_temporary_path_keeps_folder_and_suffix(tmp_path: Path, name: str) -> None:
    with files.atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == Path(name).suffix or not Path(name).suffix
        assert temporary.name != name
        temporary.write_bytes(b"x")
    assert (tmp_path / name).read_bytes() == b"x"


def test_killed_process_leaves_old_content_and_sweep_removes_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "export" / "model.tflite"
    path.parent.mkdir()
    path.write_text("old")
    code = (
        "import os, signal, sys; from keras_quant.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as stream:\n"
        "    stream.write('half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(list(path.parent.iterdir())) == 2

    assert len(files.sweep(tmp_path)) == 1
    assert list(path.parent.iterdir()) == [path]


def test_files_that_belong_together_are_all_written(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    made = {
        tmp_path / "a.txt": b"new",
        tmp_path / "inner" / "b.txt": lambda path: path.write_text("by itself"),
    }
    files.write_together(made)
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "inner" / "b.txt").read_text() == "by itself"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "b.txt", "inner"]


def test_of_files_that_belong_together_none_is_touched_where_one_fails(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        files.write_text(path / "none", "")

    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileError, match=r"/b\.txt/none: not written: No such file or directory"):
        files.write_together({tmp_path / "a.txt": b"new", tmp_path / "b.txt": refuse})
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("renamed", [0, 1])
def test_killed_between_files_that_belong_together_the_last_stays_as_it_was(
    tmp_path: Path, renamed: int
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from keras_quant import files\n"
        "replace, left = os.replace, [int(sys.argv[2])]\n"
        "def rename(source, target):\n"
        "    if not left[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left[0] -= 1; replace(source, target)\n"
        "os.replace = rename; folder = Path(sys.argv[1])\n"
        "files.write_together({folder / 'model': b'new', folder / 'proof': b'new'})\n"
    )
    for name in ("model", "proof"):
        (tmp_path / name).write_text("old")
    arguments = [sys.executable, "-c", code, str(tmp_path), str(renamed)]
    assert subprocess.run(arguments, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "model").read_text() == ("new" if renamed else "old")
    assert (tmp_path / "proof").read_text() == "old"
    assert len(files.sweep(tmp_path)) == 2 - renamed
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, r"No space left on device\. Free some space"),
        (errno.EACCES, r"Permission denied\. Choose a folder that you may write to"),
        (errno.EROFS, r"Read-only file system\. That disk is mounted read-only"),
    ],
)
def test_refusal_of_the_system_names_file_reason_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(FileError, match=rf"model\.json: not written: {advice}"):
        files.write_json(tmp_path / "model.json", {})
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"Make the folder .*absent first"):
        files.write_text(tmp_path / "absent" / "a.txt", "")


@pytest.mark.parametrize("write", [files.make_folder, lambda path: files.write_text(path, "")])
def test_file_in_place_of_a_folder_is_refused(tmp_path: Path, write) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(FileError, match=r"models/run: not written: Not a directory\. A part of"):
        write(tmp_path / "models" / "run")


def test_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"File name too long\. Choose a shorter name"):
        files.write_text(tmp_path / ("x" * 300), "")


def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path) -> None:
    # Pipes of our own stand for devices: a test that fails must not replace a real one.
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        with pytest.raises(FileError, match="exists and is not a regular file"):
            files.write_text(path, "")
    assert pipe.is_fifo()


def test_make_folder_makes_parents_and_accepts_existing(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert files.make_folder(folder) == files.make_folder(folder) == folder
    assert folder.is_dir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    first: int
    second: int


def test_a_record_is_read_or_all_that_is_wrong_is_told(tmp_path: Path) -> None:
    path = tmp_path / "pair.json"

    def read() -> Pair:
        return files.read_record(
            path,
            Pair,
            remedy="Make it again",
            format_version=1,
            problems_of=lambda pair: ["second: is below first"] * (pair.second < pair.first),
        )

    files.write_json(path, Pair(first=1, second=2))
    assert read() == Pair(first=1, second=2)
    for content, told in (
        ('{"first": 2, "second": 1}', "{0}: second: is below first\nMake it again"),
        ('{"first": "a"}', "{0}: second: missing\n{0}: first: is 'a'"),
        ('{"first": 1, "second": 2, "format_version": 2}', "{0}: written by a newer kq"),
    ):
        path.write_text(content)
        with pytest.raises(RunError) as raised:
            read()
        for line in told.format(path).split("\n"):
            assert line in str(raised.value)


@pytest.mark.parametrize("give", ["", "give an .onnx file"])
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gone.onnx", "no such file"),
        ("gone/x.onnx", "no such file"),
        ("x.txt/x.onnx", "no such file"),
        ("folder", "is a folder"),
        ("pipe", "is not a regular file"),
        ("circle", "no such file"),
    ],
)
def test_what_is_no_file_is_told_with_what_it_is(
    tmp_path: Path, name: str, what: str, give: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    os.mkfifo(tmp_path / "pipe")
    more = f"; {give}" if give else ""
    with pytest.raises(ModelError, match=f"^{re.escape(f'{tmp_path / name}: {what}{more}')}$"):
        files.check_is_file(tmp_path / name, ModelError, give=give)


def test_a_file_and_a_link_to_one_are_files(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "x.txt")
    for name in ("x.txt", "link"):
        files.check_is_file(tmp_path / name, UsageError)

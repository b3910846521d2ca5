"""Files that are either complete or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from keras_quant.errors import KerasQuantError, RunError
from keras_quant.json_codec import from_plain, to_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Record = TypeVar("_Record", bound="DataclassInstance")

_TEMPORARY = ".tmp-"

_ADVICE = {
    errno.ENOSPC: "Free some space on that disk, or choose another folder.",
    errno.EFBIG: "Files may not be that large there: raise the limit (ulimit -f).",
    errno.EDQUOT: "Your disk quota is used up: free some space, or choose another folder.",
    errno.EACCES: "Choose a folder that you may write to.",
    errno.EPERM: "Choose a folder that you may write to.",
    errno.EROFS: "That disk is mounted read-only: choose another folder.",
    errno.EEXIST: "A file has that name: remove it, or choose another folder.",
    errno.ENOTDIR: "A part of that path is a file: choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


class FileError(KerasQuantError):
    """A file or folder cannot be written."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Lends a temporary path beside path, and renames it to path when the block ends well.

    For libraries that write by themselves; the temporary name ends with path's own suffix.
    A block that raises leaves path as it was and removes the temporary file. A process that
    is killed leaves the temporary file behind, for `sweep`.

    Args:
        path: the final name; its folder must exist.
    Raises:
        FileError: the system refuses, or path is something else than a regular file.
    """
    path = Path(path)
    _check_regular(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise explained(path, error) from error
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink()


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens path for writing; it gets its new content when the block ends well.

    Args:
        path: as for `atomic_path`.
        mode: "w" for UTF-8 text, "wb" for bytes.
    Raises:
        FileError: as for `atomic_path`.
    """
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as temporary, open(temporary, mode, encoding=encoding) as stream:
        yield stream


def write_together(
    contents: Mapping[Path, bytes | Callable[[Path], None]],
    *,
    meanwhile: Mapping[Path, bytes] | None = None,
) -> None:
    """Writes files that belong together: first all under temporary names, then each is renamed.

    So no file is touched unless there was room for all. A process that is killed in between
    leaves temporary files, for `sweep`; between two renames, which take no time beside the
    writing, the first of the files. What says of the others that they are there comes last.

    Args:
        contents: by final name, in this order; bytes, or what writes to the path that it is given.
            Folders are made.
        meanwhile: what some of them hold from before the first is renamed until they are: what
            stays true if the process is killed then.
    Raises:
        FileError: as for `atomic_path`.
    """
    wanted = [*(meanwhile or {}).items(), *contents.items()]
    for path, _ in wanted:
        _check_regular(path)
    made: list[tuple[Path, Path]] = []  # temporary and final names
    path = temporary = Path()
    try:
        for number, (path, content) in enumerate(wanted):
            make_folder(path.parent)
            temporary = _temporary(path, f"-{number}")
            made.append((temporary, path))
            _write_any(temporary, content)
        for temporary, path in made:
            os.replace(temporary, path)
        for folder in {path.parent for path in contents}:
            _sync(folder)
    except OSError as error:
        raise explained(path, error) from error
    except FileError as error:
        raise FileError(str(error).replace(temporary.name, path.name)) from error
    finally:
        for temporary, _ in made:
            with suppress(OSError):  # the first error is the one to report
                temporary.unlink()


def _write_any(path: Path, content: bytes | Callable[[Path], None]) -> None:
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    _sync(path)


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8. Raises: FileError."""
    with atomic_write(path) as stream:
        stream.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes. Raises: FileError."""
    with atomic_write(path, "wb") as stream:
        stream.write(content)


def write_json(path: str | Path, value: object) -> None:
    """Writes what `json_codec.to_json` says of value. Raises: FileError."""
    write_text(path, to_json(value) + "\n")


def read_object(path: Path, *, remedy: str, format_version: int) -> dict[str, Any]:
    """Reads a file that holds a JSON object, with the version of its format.

    Args:
        remedy: what to do where it does not, a sentence without its full stop.
        format_version: the newest that is understood.
    Raises:
        RunError: it is missing, holds something else, or is of a newer format.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}. {remedy}") from None
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, nested too deep
        raise RunError(f"{path}: not JSON ({error}). {remedy}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}, and no object. {remedy}")
    version = content.get("format_version")
    if isinstance(version, int) and version > format_version:
        raise RunError(
            f"{path}: written by a newer kq (format {version}; this one reads up to "
            f"{format_version}). Upgrade: pip install --upgrade keras_quant"
        )
    return content


def read_record(
    path: Path,
    kind: type[_Record],
    *,
    remedy: str,
    format_version: int,
    problems_of: Callable[[_Record], Iterable[str]] = lambda record: (),
) -> _Record:
    """Reads a file that holds a record, a dataclass as `write_json` wrote it.

    Args:
        kind: the dataclass.
        remedy, format_version: see `read_object`.
        problems_of: what the fields of a record do not say together, one text each.
    Raises:
        RunError: it is missing, broken, or of a newer format; all problems at once.
    """
    content = read_object(path, remedy=remedy, format_version=format_version)
    problems: list[str] = []
    record = from_plain(content, kind, problems)
    if record is not None:
        problems += problems_of(record)
    if record is None or problems:
        lines = "\n".join(f"{path}: {problem}" for problem in problems)
        raise RunError(f"{lines}\n{remedy}")
    return record


def check_is_file(path: Path, error: type[KerasQuantError], *, give: str = "") -> None:
    """Checks that a path which a user gave is that of a file.

    Args:
        error: what is raised where it is not.
        give: what is to be given in its place, as in "give an .onnx file"; "" says nothing of it.
    Raises:
        error: it is a folder, no regular file, or not there.
    """
    if path.is_file():
        return
    what = "no such file"
    if path.exists():
        what = "is a folder" if path.is_dir() else "is not a regular file"
    raise error(f"{path}: {what}{f'; {give}' if give else ''}")


def make_folder(path: str | Path) -> Path:
    """Makes a folder and its parents where they are missing.

    Returns: path.
    Raises:
        FileError: the system refuses.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(path, error) from error
    return path


def sweep(folder: str | Path) -> list[Path]:
    """Removes the temporary files that killed processes left in a folder and below it.

    Call it only while nobody else writes to the folder.

    Returns: the removed files.
    Raises:
        FileError: the system refuses.
    """
    leftovers = [path for path in Path(folder).rglob("*") if is_temporary(path)]
    for path in leftovers:
        remove(path)
    return leftovers


def is_temporary(path: Path) -> bool:
    """Whether a file was being written when its process was killed, or is being written."""
    return path.name.startswith(".") and _TEMPORARY in path.name and path.is_file()


def remove(path: Path) -> None:
    """Removes a file, where it is there. Raises: FileError: the system refuses."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise explained(path, error, "removed") from error


def _temporary(path: Path, mark: str = "") -> Path:
    """What a file is called while it is written; mark: tells two of one name apart."""
    return path.with_name(f".{path.stem}{_TEMPORARY}{os.getpid()}{mark}{path.suffix}")


def _check_regular(path: Path) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileError(f"{path}: exists and is not a regular file. Choose another name.")


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explained(path: Path, error: OSError, what: str = "written") -> FileError:
    """Says where the system refused, why, and what to do.

    Args:
        what: was not done: "written" or "removed".
    """
    advice = _ADVICE.get(error.errno or 0, "")
    if error.errno == errno.ENOENT and not os.path.exists(path.parent):
        advice = f"Make the folder {path.parent} first."
    return FileError(f"{path}: not {what}: {error.strerror or error}. {advice}".rstrip())

"""parity.json: which files of a folder are proven, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

PARITY_NAME = "parity.json"
UNFINISHED = "unfinished"
"""The key of what `read_unfinished` reads, beside the names of formats."""

_LONGEST_NAME = 255  # characters, as of most file systems

Record = Mapping[str, Any]
"""What was proven of one format's file: its name as "file", its "sha256", whether it "passed"."""


def read_records(folder: Path) -> dict[str, Record]:
    """Reads what is recorded of a folder's files, by format; nothing where that is broken."""
    return {name: record for name, record in _read(folder).items() if _is_record(record)}


def read_unfinished(folder: Path) -> list[Record]:
    """Reads which files an export that was killed was about to replace, and by which.

    They are ours, and nothing is proven of them.

    Returns: their "file" and "sha256"; of one file maybe both the old and the new.
    """
    found = _read(folder).get(UNFINISHED)
    return [entry for entry in found if _is_record(entry)] if isinstance(found, list) else []


def is_recorded(folder: Path, record: Record) -> bool:
    """Whether a recorded file is there, and is the one that was proven."""
    try:
        content = (folder / record["file"]).read_bytes()
    except OSError:
        return False
    return bool(digest(content) == record["sha256"])


def digest(content: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _read(folder: Path) -> dict[str, Any]:
    try:
        known = json.loads((folder / PARITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_record(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    file, sha256 = record.get("file"), record.get("sha256")
    return isinstance(sha256, str) and isinstance(file, str) and _is_inside(file)


def _is_inside(name: str) -> bool:
    """Whether a name may be that of a file in the folder, or in one inside it."""
    path = PurePath(name)
    is_name = 0 < len(name) <= _LONGEST_NAME and "\0" not in name
    return is_name and not path.is_absolute() and ".." not in path.parts

"""parity.json: which files of a folder are proven, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PARITY_NAME = "parity.json"

Record = Mapping[str, Any]
"""What was proven of one format's file: its name as "file", its "sha256", whether it "passed"."""


def read_records(folder: Path) -> dict[str, Record]:
    """Reads what is recorded of a folder's files, by format; nothing where that is broken."""
    try:
        known = json.loads((folder / PARITY_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {name: record for name, record in known.items() if _is_record(record)}


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


def _is_record(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    return all(isinstance(record.get(key), str) for key in ("file", "sha256"))

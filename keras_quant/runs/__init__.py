"""Folders of runs, the records in them, and what is shown while one goes on."""

from __future__ import annotations

from keras_quant.runs.folder import (
    GRAPH_NAME,
    RunFolder,
    check_free,
    create,
    model_of,
    reopen,
)
from keras_quant.runs.lock import locked

__all__ = ["GRAPH_NAME", "RunFolder", "check_free", "create", "locked", "model_of", "reopen"]

"""The small graph of the tests of graph/, for emitters too."""

from __future__ import annotations

from tests.graph.conftest import graph  # noqa: F401

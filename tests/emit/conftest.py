"""The small graph of tests/graph, for the tests of files."""

from __future__ import annotations

from tests.graph.conftest import graph

__all__ = ["graph"]

"""AutoQKeras in place of the integer program, where it runs."""

from __future__ import annotations

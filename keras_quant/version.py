"""The version of the package, which setup.py reads too."""

from __future__ import annotations

__version__ = "0.1.0"

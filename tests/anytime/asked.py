"""`kq anytime`, called in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from keras_quant.cli.main import main


def kq(*words: str | Path) -> Result:
    """What `kq anytime WORDS` comes to."""
    return CliRunner().invoke(main, ["anytime", *map(str, words)])


def parsed(result: Result) -> Any:
    """The JSON that a command printed, which ended well."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import keras_quant

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_code_from_python_proves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorflow")
    monkeypatch.chdir(tmp_path)
    section = README.partition("## From Python")[2].partition("\n## ")[0]
    code, shown = re.search(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", section, re.DOTALL
    ).groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    # Training ends in other weights on another processor, whose tables pack to other sizes.
    assert re.fullmatch(r"[\d,]+ bytes; 0 of 2,642,240 codes differ\n", printed.getvalue())
    assert re.fullmatch(r"[\d,]+ bytes; 0 of 2,642,240 codes differ\n", shown)
    assert not list(tmp_path.iterdir())


@pytest.mark.tensorflow
def test_public_names_are_those_that_lead_somewhere() -> None:
    pytest.importorskip("tensorflow")
    assert set(keras_quant._HOMES) | {"__version__"} == set(keras_quant.__all__)
    for name in keras_quant.__all__:
        assert getattr(keras_quant, name) is not None


def test_a_name_that_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        keras_quant.quantise  # noqa: B018

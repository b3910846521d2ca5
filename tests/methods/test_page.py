"""docs/methods.md says what there is, and its example works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keras_quant.methods import METHODS
from keras_quant.schemes.file import parse_scheme

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import load_method  # noqa: E402
from keras_quant.prepare import plan, wrap  # noqa: E402
from keras_quant.qparams import unsigned  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")


def test_page_has_a_line_for_each_method() -> None:
    assert set(METHODS) - {"toy"} <= set(re.findall(r"^\| (\w+) \|", PAGE, re.MULTILINE))


@pytest.mark.slow
def test_scheme_of_several_methods_wraps_a_net() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    source = build("resnet8", (8, 8, 3), 10)
    planned = plan(source, parse_scheme(text, where="docs/methods.md"))
    model = wrap(planned, source, load_method("qkeras"), unsigned(8, 1 / 255))
    kinds = {type(layer).__name__ for layer in model.layers}
    assert {"LsqConv2D", "LsqGrid", "DorefaDense"} <= kinds
    assert model.get_layer("logits").gradient_bits == 8

from __future__ import annotations

import re
from importlib.metadata import requires

from newest import CONSTRAINTS, differences

TEXT = "numpy==2.2.6 ; python_full_version < '3.11'\nnumpy==2.4.6\nPyYAML==6.0.4\n# rich==1.0\n"


def test_releases_that_no_line_names_are_listed() -> None:
    found = {"numpy": "2.5.0", "pyyaml": "6.0.4", "rich": "15.0", "pip": "26.0"}
    assert differences(TEXT, found) == ["numpy 2.5.0, constraints.txt has 2.2.6, 2.4.6"]
    assert differences(TEXT, {"numpy": "2.2.6"}) == []


def test_all_that_the_package_asks_for_is_constrained() -> None:
    """Where a requirement is new, constraints.txt is to be made again."""
    text = CONSTRAINTS.read_text(encoding="utf-8").lower().replace("_", "-")
    constrained = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    names = {
        re.split(r"[<>=\[; ]", entry, maxsplit=1)[0] for entry in requires("keras_quant") or ()
    }
    assert {name.lower().replace("_", "-") for name in names} - constrained == set()

from __future__ import annotations

import pytest

from keras_quant.errors import UsageError
from keras_quant.search.budget import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size=0.5", {"share": 0.5}),
        ("size=1", {"share": 1.0}),
        ("size=40kB", {"amount": 40_000.0}),
        ("size = 1.5 MB", {"amount": 1_500_000.0}),
        ("size=w3a8", {"bits": "w3a8"}),
        ("bitops=2G", {"amount": 2e9}),
        ("bitops=3e6", {"amount": 3e6}),
        ("energy=20uJ", {"amount": 20_000.0}),
        ("latency_ms=0.8", {"amount": 0.8}),
    ],
)
def test_a_budget_is_a_share_an_amount_or_what_bits_cost(
    text: str, said: dict[str, object]
) -> None:
    budget = parse_budget(text)
    assert budget == Budget(quantity=text.partition("=")[0].strip(), text=text, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "help_text"),
    [
        ("size", "write one of size=0.5"),
        ("bytes=3", "write one of"),
        ("latency=3", "close names: latency_ms"),
        ("size=0", "above 0"),
        ("size=50", "a unit is needed: B or kB or MB"),
        ("size=1.2.3", "above 0"),
        ("size=w3", r"size=w3a8 \(what that costs\)"),
        ("latency_ms=w3a8", "latency_ms=0.8"),
        ("energy=5MB", "a unit is needed: nJ"),
    ],
)
def test_what_is_no_budget_is_told_what_one_is(text: str, help_text: str) -> None:
    with pytest.raises(UsageError, match=help_text):
        parse_budget(text)

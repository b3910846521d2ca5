"""AutoQKeras' trials beside budgets; the trials themselves are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import BudgetError, ModelError  # noqa: E402
from keras_quant.jobs import autoqkeras as module  # noqa: E402
from keras_quant.jobs.search import SearchSettings, search  # noqa: E402
from keras_quant.methods.qkeras.auto import Trial  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.search.budget import parse_budget  # noqa: E402
from tests.jobs.test_sensitivity import make_float_run  # noqa: E402

LAYERS = ("conv", "second", "logits")
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_float_run(tmp_path_factory.mktemp("runs") / "base")


def asked(budget: str) -> SearchSettings:
    return SearchSettings(budgets=(parse_budget(budget),), trials=3, widths=(2, 8))


@pytest.mark.slow
def test_the_most_accurate_trial_within_the_budget_is_taken(run: Path, monkeypatch) -> None:
    trials = [
        Trial(bits=dict.fromkeys(LAYERS, 8), accuracy=0.9),
        Trial(bits={"conv": 8, "second": 2, "logits": 2}, accuracy=0.8),
        Trial(bits=dict.fromkeys(LAYERS, 2), accuracy=0.7),
    ]
    monkeypatch.setattr(module, "try_mixes", lambda *given, **named: trials)
    found = search(run, asked("size=0.7"), progress=QUIET)
    assert found.bits == trials[1].bits and found.trained_accuracy == 0.8
    assert found.harms == {} and found.spent[0].value <= found.spent[0].most
    assert found.scheme.name == "mixed-size=0.7-autoqkeras"
    with pytest.raises(BudgetError, match="none of AutoQKeras' 3 trials is within the budget"):
        search(run, asked("size=10B"), progress=QUIET)


def test_why_it_fails_is_said_with_what_does_not(run: Path, monkeypatch) -> None:
    def fails(*given, **named):
        raise TypeError("Could not locate class 'QConv2D'\nmore of it")

    monkeypatch.setattr(module, "try_mixes", fails)
    with pytest.raises(ModelError, match=r"TypeError: .*'QConv2D'\); --engine milp does"):
        search(run, asked("size=0.7"), progress=QUIET)

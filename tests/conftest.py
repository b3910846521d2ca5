"""What holds for all tests: no data but the built-in, no download, few examples, one seed."""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# pytest.importorskip may import TensorFlow before keras_quant.tf, which sets this, is asked.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("quick")  # pytest --hypothesis-profile thorough overrides it

PRINTED = "printed"  # what tests record under this name is printed at the end

# Files.
LONGEST = (
    *("test_exactness.py", "test_notebooks.py", "test_fuzz.py"),
    *("test_kill.py", "test_kills_and_races.py", "test_sweep.py"),
)
SLOW_ONES = 3  # of the cases of a thinned test that are not fast
MOST_WORKERS = 4  # each imports TensorFlow (3 s) and comes to hold 2 GB


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker a core for the whole suite; none where tests are named, which starts sooner."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    return 0 if named else min(MOST_WORKERS, os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Thins long rows of cases; puts the longest tests first, so that none is last and alone.

    Of a test with the mark thinned(n) one case in n of those that are asked for is fast; of the
    others one in SLOW_ONES is slow, and the rest is left out but for --all-cases, or where tests
    are named as FILE::TEST.
    """
    takes_all = config.getoption("--all-cases") or any("::" in word for word in config.args)
    draws: dict[str, tuple[Iterator[bool], Iterator[bool]]] = {}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_kept = True
        if mark := item.get_closest_marker("thinned"):
            test = item.nodeid.partition("[")[0]
            if test not in draws:
                draws[test] = _one_in(mark.args[0]), _one_in(SLOW_ONES)
            are_fast, are_slow = draws[test]
            if not next(are_fast):
                item.add_marker(pytest.mark.slow)
                is_kept = next(are_slow) or takes_all
        (kept if is_kept else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted(kept, key=lambda item: item.path.name not in LONGEST)


def _one_in(count: int) -> Iterator[bool]:
    """Says of each case whether it is taken: the first is, and one in each `count` of them.

    Drawn, always alike: every n-th of all pairs of 8 methods and some kernels, say, would leave out
    the same methods for each kernel.
    """
    taken, draw = 0, random.Random(0)
    for place in itertools.cycle(range(count)):
        yield place == taken
        if place == count - 1:
            taken = draw.randrange(count)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How much the slow tests try that would take any time."""
    group = parser.getgroup("keras_quant")
    group.addoption("--all-cases", action="store_true", help="leave no case of long rows out")
    group.addoption("--fuzz-inputs", type=int, default=55, help="damaged inputs to try")
    group.addoption("--fuzz-only", metavar="NAME", help="the damaged input to try")
    group.addoption("--kills", type=int, default=4, help="kills of each command to try")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the counts that tests came to, from whichever process."""
    reports = [r for key in ("passed", "failed") for r in terminalreporter.getreports(key)]
    texts = [
        (report.nodeid, text)
        for report in reports
        for name, text in report.user_properties
        if name == PRINTED
    ]
    if texts:
        terminalreporter.section("counts")
    for name, text in texts:
        terminalreporter.write_line(f"{name}\n{text}\n")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Gives each test's nets the same weights, whichever tests ran before it in its process."""
    door = sys.modules.get("keras_quant.tf")
    if door is not None:
        door.keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True, scope="session")
def no_real_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Points $KQ_DATA_DIR and the home folder, where datasets are looked for, to empty ones."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KQ_DATA_DIR", str(folder))
        patch.setenv("HOME", str(folder))
        patch.setenv("USERPROFILE", str(folder))  # the home folder on Windows
        yield folder

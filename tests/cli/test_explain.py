"""`kq explain` as a user calls it, and the pictures of what it saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from tests.jobs.test_explain import make_quantized_run  # noqa: E402
from tests.jobs.test_sensitivity import make_float_run  # noqa: E402

DONE, FAILED, USAGE = 0, 1, 2


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return make_quantized_run(folder / "quantized", make_float_run(folder / "base"))


@pytest.fixture(scope="module")
def seen(run: Path) -> Result:
    return kq("explain", run, "--images", 20, "--maps", 2)


@pytest.mark.slow
def test_it_says_what_changed_and_how_to_draw_it(run: Path, seen: Result) -> None:
    assert seen.exit_code == DONE, seen.stderr
    for figure in ("accuracy float", "accuracy quantized", "overlap iou"):
        assert figure in seen.stdout
    assert f"kq plot maps {run}" in seen.stderr
    again = kq("explain", run)
    assert again.exit_code == FAILED and "--overwrite makes it again" in again.stderr
    found = json.loads(kq("explain", run, "--images", 20, "--overwrite", "--json").stdout)
    assert found["header"]["images"] == 20 and len(found["overlap_iou"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["histograms", "confusion", "maps"])
def test_each_picture_is_drawn_of_the_record(
    kind: str, run: Path, seen: Result, tmp_path: Path
) -> None:
    picture = tmp_path / f"{kind}.png"
    result = kq("plot", kind, run, "--out", picture)
    assert result.exit_code == DONE, result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_layers_are_for_histograms_and_must_be_there(run: Path, seen: Result) -> None:
    wrong = kq("plot", "histograms", run, "--layer", "second2")
    assert wrong.exit_code == USAGE and "close names: second" in wrong.stderr
    other = kq("plot", "confusion", run, "--layer", "conv")
    assert other.exit_code == USAGE and "--layer is for histograms" in other.stderr


def test_a_run_that_was_not_looked_at_says_what_looks(run: Path, tmp_path: Path) -> None:
    base = make_float_run(tmp_path / "base")
    result = kq("plot", "maps", base)
    assert result.exit_code == FAILED and "kq explain" in result.stderr
    assert kq("explain", base).exit_code == USAGE

"""`kq sweep` as a user calls it, with real trainings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")

ROOT = Path(__file__).parents[2]
DONE, FAILED, USAGE = 0, 1, 2


def kq(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keras_quant", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_sweep_is_trained_quantized_and_drawn(tmp_path: Path) -> None:
    asked = (
        *("sweep", "--model", "mlp", "--option", "units=16", "--bits", "4,2"),
        *("--methods", "qkeras,ptq", "--float-epochs", "2", "--epochs", "1", "--name", "s"),
    )
    done = kq(*asked, "--train", "--distill 0.5", "--json", folder=tmp_path)
    assert done.returncode == DONE, done.stderr
    runs = {Path(run["path"]).name: run for run in json.loads(done.stdout)["runs"]}
    assert list(runs) == ["float", "ptq-w2a2", "ptq-w4a4", "qkeras-w2a2", "qkeras-w4a4"]
    assert {run["record"]["status"] for run in runs.values()} == {"exported"}
    assert {run["agreement"] for run in runs.values()} == {100.0}
    assert runs["qkeras-w2a2"]["record"]["training"]["parent"] == "models/s/qkeras-w4a4"
    assert runs["qkeras-w2a2"]["record"]["training"]["distill"] == 0.5
    assert runs["float"]["record"]["training"]["distill"] == 0.0
    assert runs["ptq-w4a4"]["energy_nj"] < runs["float"]["energy_nj"]
    assert runs["ptq-w4a4"]["bit_operations"] > runs["ptq-w2a2"]["bit_operations"]
    assert done.stderr.splitlines()[-1].startswith("done: ptq-w2a2  (5 of 5 points")
    drawn = kq("plot", "accuracy-bitops", "models/s", "--out", "p.png", folder=tmp_path)
    assert drawn.returncode == DONE and (tmp_path / "p.png").stat().st_size > 10_000


@pytest.mark.slow
def test_what_cannot_be_read_is_explained(tmp_path: Path) -> None:
    for arguments, told in (
        (("--seeds", "a"), "--seeds 'a': write whole numbers"),
        (("--train", "'"), '--train "\'": No closing quotation'),
        (("--bits", "4,11"), "bits '11' are not understood"),
    ):
        done = kq("sweep", *arguments, folder=tmp_path)
        assert done.returncode == USAGE and told in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("*.json")) == []


_FAILING = """
import sys
from keras_quant.cli.main import main

for words in (
    ["--methods", "lsqq"],
    ["--epochs", "0"],
    ["--bits", "4,11"],
    ["--name", "taken"],
    ["--name", "taken", "--engine", "ray", "--address", "nowhere:1"],
):
    try:
        main(["sweep", *words])
    except SystemExit as ended:
        print(ended.code)
print([name for name in ("tensorflow", "numpy", "ray") if name in sys.modules])
"""


def test_what_is_wrong_is_told_before_anything_large_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "models" / "taken").mkdir(parents=True)
    (tmp_path / "models" / "taken" / "thesis.txt").touch()
    done = subprocess.run(
        [sys.executable, "-c", _FAILING],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["2", "2", "2", "1", "1", "[]"], done.stderr
    assert done.stderr.count("models/taken: holds thesis.txt, and no sweep") == 2
    assert [path.name for path in tmp_path.rglob("*.*")] == ["thesis.txt"]


def test_a_grid_of_widths_is_all_pairs() -> None:
    from keras_quant.cli.sweep import _bits

    assert _bits(None, None, None) == ("2", "3", "4", "8")
    assert _bits("4,2", None, None) == ("4", "2")
    assert _bits(None, "2,t", "4, 8") == ("w2a4", "w2a8", "wta4", "wta8")


@pytest.mark.parametrize(
    "given", [(None, "2", None), (None, None, "4"), ("4", "2", "4")], ids=lambda given: str(given)
)
def test_half_a_grid_is_refused(given: tuple[str | None, str | None, str | None]) -> None:
    from keras_quant.cli.sweep import _bits
    from keras_quant.errors import UsageError

    with pytest.raises(UsageError, match="--weight-bits and --activation-bits go together"):
        _bits(*given)

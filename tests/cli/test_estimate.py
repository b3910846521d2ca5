"""`kq bench --board NAME --estimate`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keras_quant.bench.estimate import records
from keras_quant.cli.main import main
from keras_quant.files import write_bytes
from keras_quant.graph.store import pack_graph
from tests.bench.estimate.graphs import residual
from tests.fake_runs import make_run


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "run")
    write_bytes(folder / "export" / "model.kqgraph", pack_graph(residual()))
    return folder


def test_an_estimate_says_that_it_is_one_and_is_kept_in_the_run(run: Path) -> None:
    result = kq(run, "--board", "orin-nano", "--estimate")
    assert result.exit_code == 0, result.output
    title, heading, *rows = result.stdout.splitlines()
    assert title.startswith("ESTIMATE, nothing was run: Jetson Orin Nano 8 GB in mode MAXN_SUPER")
    assert "estimate, ms" in heading and "interval, ms" in heading and " p50" not in heading
    assert [row.split()[1] for row in rows[:3]] == ["fp32", "fp16", "int8"]
    assert "latencies that were left out of the fit lay within a factor of" in rows[3]
    path = run / "estimate-orin-nano.json"
    assert f"estimate, with each layer: {path}" in result.stderr
    assert records.load(path).estimates[0].name == str(run)
    # No measurement came of it.
    assert not (run / "bench.json").exists()


def test_each_run_keeps_its_own(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other")
    write_bytes(other / "export" / "model.kqgraph", pack_graph(residual()))
    result = kq(run, other, "--board", "nano", "--estimate", "--batch", "1,8")
    assert result.exit_code == 0, result.output
    for folder in (run, other):
        kept = records.load(folder / "estimate-nano.json").estimates
        assert {one.name for one in kept} == {str(folder)}
        assert [(one.precision, one.batch) for one in kept] == [
            *(("fp32", 1), ("fp16", 1), ("fp32", 8), ("fp16", 8))
        ]


def test_layers_are_shown_on_demand(run: Path) -> None:
    options = ("--board", "orin-nano", "--estimate", "--profile", "--precision", "int8")
    lines = kq(run, *options).stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("layer "))
    assert [line.split()[0] for line in lines[start + 1 : start + 5]] == [
        *("conv1", "conv2", "mean", "logits")
    ]


def test_json_and_output_hold_the_record(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    options = ("--board", "xavier-nx", "--power-mode", "15W_2CORE", "--output", path)
    result = kq(run, "--estimate", "--json", *options)
    shown = json.loads(result.stdout)
    assert shown["kind"] == "estimate" and shown["power_mode"] == "15W_6CORE"
    assert records.load(path).sms == 6
    assert not (run / "estimate-xavier-nx.json").exists()


@pytest.mark.parametrize(
    ("options", "helpful"),
    [
        (("--estimate",), "--estimate needs --board, one of nano, tx1, tx2, xavier-nx"),
        (("--board", "nano"), "--board is for --estimate; to measure on a board give --host"),
        (("--power-mode", "5W", "--fit", "x"), "--power-mode, --fit is for --estimate"),
        (
            ("--board", "nano", "--estimate", "--host", "a@b", "--threads", "2"),
            "--estimate runs nothing; leave out --threads, --host",
        ),
        (("--input-shape", "8,8,3"), "--input-shape H,W,C is for --estimate; write NAME="),
        (("--input-shape", "x=8", "--input-shape", "8y"), "'8y' is no shape; write NAME="),
        (("--board", "nanoo", "--estimate"), "'nanoo' is not known; close names: nano"),
        (("--board", "nano", "--estimate", "--power-mode", "9W"), "it has MAXN, 10W, 5W"),
        (("--board", "nano", "--estimate", "--precision", "int8"), "no int8 kernels"),
    ],
)
def test_what_does_not_go_together_is_explained(
    options: tuple[str, ...], helpful: str, run: Path
) -> None:
    result = kq(run, *options)
    assert result.exit_code == 2
    assert helpful in result.stderr


def test_a_target_that_is_not_there_is_told() -> None:
    result = kq("nowhere", "--board", "nano", "--estimate")
    assert result.exit_code == 1
    assert "nowhere: no such run, file or zoo model" in result.stderr

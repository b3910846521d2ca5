from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.graph.cost import GraphCost, NodeCost  # noqa: E402


def test_table_ends_with_the_totals_of_its_columns() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4"])
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    total = rows[-1]
    assert total[0] == "total"
    macs = 64 * 128 + 128 * 128 + 128 * 10
    assert total[4] == f"{macs:,}"
    assert sum(int(row[4].replace(",", "")) for row in rows[2:-1]) == macs


def test_float_layers_are_called_float() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp"])
    dense = next(line for line in result.stdout.splitlines() if line.startswith("dense1"))
    assert dense.split().count("float") == 2


def test_json_has_every_layer_and_the_totals() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--set", "dense2=w2a4", "--json"])
    total = json.loads(result.stdout)
    assert total.keys() == set(GraphCost.__slots__)
    assert all(node.keys() == set(NodeCost.__slots__) for node in total["nodes"])
    bits = {node["name"]: node["weight_bits"] for node in total["nodes"]}
    assert bits["dense2"] == 2


@pytest.mark.parametrize(
    ("arguments", "exit_code", "helpful"),
    [
        (["mpl"], 1, "close names: mlp"),
        (["mlp", "--bits", "99"], 2, "99"),
        (["mlp", "--scheme", "w4a44"], 2, "close names: w4a4"),
        (["mlp", "--set", "dens2=4"], 2, "close names: dense2"),
        (["mlp", "--dataset", "digit"], 2, "close names: digits"),
        (["models/gone", "--bits", "4"], 2, "are for models of the zoo"),
    ],
)
def test_bad_argument_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    exit_code: int,
    helpful: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["inspect", *arguments])
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr
    assert "bug of kq" not in result.stderr

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.main import main  # noqa: E402
from keras_quant.emit.tflite.sizes import FileBytes  # noqa: E402
from keras_quant.errors import EmitError  # noqa: E402
from keras_quant.graph.costs.cost import GraphCost, NodeCost  # noqa: E402


def table_of(stdout: str) -> dict[str, list[str]]:
    """Cells of the table of layers by the layer's name; columns are two spaces apart."""
    rows = [re.split(r"  +", line.strip()) for line in stdout.splitlines()]
    return {row[0]: row for row in rows if len(row) > 2}


def test_totals_are_those_of_the_columns() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4"])
    assert result.exit_code == 0, result.stderr
    table = table_of(result.stdout)
    total, heading = table.pop("total"), table.pop("layer")
    assert total[4] == f"{64 * 128 + 128 * 128 + 128 * 10:,}"
    for column in ("parameters", "MACs", "bit operations", "weight bytes", "file bytes"):
        index = heading.index(column)
        cells = [row[index].replace(",", "") for row in table.values()]
        assert sum(int(cell) for cell in cells if cell != "-") == int(total[index].replace(",", ""))


def test_peak_and_energy_are_told_with_what_they_mean() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4"])
    assert re.search(r"peak of live activations, codes in int8 +320 bytes", result.stdout)
    assert re.search(r"energy of arithmetic, modelled +[\d,.]+ nJ", result.stdout)
    assert re.search(r"weights in 32 kB cache, activations in 8 kB cache", result.stdout)


def test_graph_is_printed_one_node_a_line_without_colours() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4", "--graph"])
    first, _, *lines = result.stdout.splitlines()
    assert first == "graph mlp: image [float32] 8x8x1 -> logits [float32] 10"
    assert [line.split()[0] for line in lines][-3:] == ["dense1", "dense2", "logits"]
    assert "\x1b" not in result.stdout


def test_graph_as_json_has_the_same_words() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4", "--graph", "--json"])
    assert json.loads(result.stdout)[-1]["output"] == "logits [float32] 10"


def test_float_layers_are_called_float() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp"])
    dense = next(line for line in result.stdout.splitlines() if line.startswith("dense1"))
    assert dense.split().count("float") == 2


def test_json_has_every_layer_the_totals_and_the_file() -> None:
    result = CliRunner().invoke(main, ["inspect", "mlp", "--set", "dense2=w2a4", "--json"])
    found = json.loads(result.stdout)
    assert found.keys() == {*GraphCost.__slots__, "file"}
    assert all(node.keys() == set(NodeCost.__slots__) for node in found["nodes"])
    assert found["file"].keys() == set(FileBytes.__slots__)
    bits = {node["name"]: node["weight_bits"] for node in found["nodes"]}
    assert bits["dense2"] == 2


def test_file_that_cannot_be_written_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(graph: object) -> bytes:
        raise EmitError("too odd")

    monkeypatch.setattr("keras_quant.jobs.inspection.emit_tflite", refuse)
    result = CliRunner().invoke(main, ["inspect", "mlp", "--bits", "4"])
    assert result.exit_code == 0
    assert "no TFLite file, so no file bytes: too odd" in result.stderr
    assert table_of(result.stdout)["total"][9] == "-"


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


def test_input_shape_that_is_none_is_explained() -> None:
    result = CliRunner().invoke(main, ["inspect", "net.keras", "--input-shape", "32,zero,1"])
    assert result.exit_code == 2
    assert "'32,zero,1' is no shape; write its sizes, as in 32,32,3" in result.stderr

"""kq anytime unpack: graphs of widths come out of one file; needs no TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.graph.cut import cut_codes
from keras_quant.graph.ir import Graph, Node, Tensor, Weight
from keras_quant.graph.nested import pack_nested
from keras_quant.graph.store import pack_graph
from keras_quant.qparams import unsigned

BASE = np.random.default_rng(0).integers(-127, 128, (6, 3))


def graph(bits: int, codes: np.ndarray) -> Graph:
    tensors = [
        Tensor(name="image", shape=(6,)),
        Tensor(name="pixels", shape=(6,), qparams=unsigned(8, 1 / 255)),
        Tensor(name="logits", shape=(3,)),
    ]
    weight = Weight(values=codes.astype(np.int8), scale=np.full(3, 0.5), bits=bits)
    nodes = [
        Node(name="quantize", op="quantize", inputs=("image",), output="pixels"),
        Node(
            name="logits",
            op="dense",
            inputs=("pixels",),
            output="logits",
            weight=weight,
            bias=np.zeros(3),
        ),
    ]
    return Graph(
        name="net",
        inputs=("image",),
        outputs=("logits",),
        tensors={tensor.name: tensor for tensor in tensors},
        nodes=tuple(nodes),
    )


GRAPHS = {
    "w8a8": graph(8, BASE),
    "w4a4": graph(4, cut_codes(BASE, bits=4, qmin=-7, qmax=7)),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "widths.kqnested"
    path.write_bytes(pack_nested(GRAPHS))
    return path


def kq(*words: object) -> Result:
    return CliRunner().invoke(main, ["anytime", "unpack", *map(str, words)])


def test_graphs_of_all_widths_come_out_to_the_byte(file: Path, tmp_path: Path) -> None:
    result = kq(file, "--out", tmp_path / "graphs", "--json")
    assert result.exit_code == 0, result.output
    paths = json.loads(result.stdout)
    assert list(paths) == ["w8a8", "w4a4"]
    for name, path in paths.items():
        assert Path(path).read_bytes() == pack_graph(GRAPHS[name])


def test_one_width_comes_out_alone_and_is_not_replaced_unasked(file: Path, tmp_path: Path) -> None:
    words = (file, "--width", "w4a4", "--out", tmp_path)
    result = kq(*words)
    assert result.exit_code == 0 and "w4a4" in result.stdout and "w8a8" not in result.stdout
    again = kq(*words)
    assert again.exit_code == 1 and "w4a4.kqgraph: there already" in again.stderr
    assert kq(*words, "--overwrite").exit_code == 0


def test_what_is_not_there_is_told(file: Path, tmp_path: Path) -> None:
    result = kq(file, "--width", "w4a8", "--out", tmp_path / "graphs")
    assert result.exit_code == 2
    assert "has no width 'w4a8'; close names: w8a8, w4a4" in result.stderr
    assert not (tmp_path / "graphs").exists()
    result = kq(tmp_path / "nothing", "--out", tmp_path)
    assert result.exit_code == 1
    assert "cannot be read: No such file or directory. Give the widths.kqnested" in result.stderr


def test_the_folder_of_the_run_stands_for_its_file(file: Path, tmp_path: Path) -> None:
    result = kq(tmp_path, "--out", tmp_path / "graphs")
    assert result.exit_code == 0 and (tmp_path / "graphs" / "w4a4.kqgraph").is_file()
    empty = kq(tmp_path / "graphs", "--out", tmp_path / "other")
    assert empty.exit_code == 1 and "graphs/widths.kqnested: cannot be read" in empty.stderr


def test_another_file_says_which_is_wanted(file: Path, tmp_path: Path) -> None:
    file.write_bytes(pack_graph(GRAPHS["w8a8"]))
    result = kq(file, "--out", tmp_path / "graphs")
    assert result.exit_code == 1
    assert "Give the widths.kqnested of a run of kq train --nested" in result.stderr


def test_names_that_lead_out_of_the_folder_are_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(pack_nested({"../w8a8": GRAPHS["w8a8"], "w4a4": GRAPHS["w4a4"]}))
    result = kq(file, "--out", tmp_path / "graphs")
    assert result.exit_code == 2 and "names no file can have: '../w8a8'" in result.stderr

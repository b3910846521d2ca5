"""Graphs on disk: what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from keras_quant.errors import GraphError
from keras_quant.graph.ir import Graph
from keras_quant.graph.store import load_graph, pack_graph
from keras_quant.qparams import unsigned


def plain(graph: Graph) -> dict:
    """All that a graph holds, in values that == compares, dtypes included."""

    def value(item):
        if isinstance(item, np.ndarray):
            return str(item.dtype), item.tolist()
        if isinstance(item, dict):
            return {key: value(inner) for key, inner in item.items()}
        return tuple(map(value, item)) if isinstance(item, tuple) else item

    return value(asdict(graph))


def edit(path: Path, change) -> None:
    """Rewrites the structure of a stored graph."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    structure = json.loads(members["graph.json"])
    change(structure)
    members["graph.json"] = json.dumps(structure).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_everything_comes_back(graph: Graph, tmp_path: Path):
    (tmp_path / "graph.kqg").write_bytes(pack_graph(graph))
    assert plain(load_graph(tmp_path / "graph.kqg")) == plain(graph)


def test_scales_come_back_to_the_last_bit(graph: Graph, tmp_path: Path):
    scale = np.float32(0.1)
    pixels = replace(graph.tensors["pixels"], qparams=unsigned(8, scale))
    graph = replace(graph, tensors={**graph.tensors, "pixels": pixels})
    (tmp_path / "graph.kqg").write_bytes(pack_graph(graph))
    assert load_graph(tmp_path / "graph.kqg").tensors["pixels"].qparams.scale == float(scale)


def test_equal_graphs_give_equal_bytes(graph: Graph, tmp_path: Path):
    (tmp_path / "first.kqg").write_bytes(pack_graph(graph))
    (tmp_path / "second.kqg").write_bytes(pack_graph(load_graph(tmp_path / "first.kqg")))
    assert (tmp_path / "first.kqg").read_bytes() == (tmp_path / "second.kqg").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.kqg") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(
        GraphError, match=r"nothing\.kqg: cannot be read: No such file .* Export it again"
    ):
        load_graph(tmp_path / "nothing.kqg")


def test_a_newer_file_asks_for_an_upgrade(graph: Graph, tmp_path: Path):
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    edit(path, lambda structure: structure.update(format_version=2))
    with pytest.raises(GraphError, match="written by a newer keras_quant .format 2.*Upgrade"):
        load_graph(path)


def test_every_truncation_is_refused(graph: Graph, tmp_path: Path):
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(GraphError, match="not a whole graph file"):
            load_graph(path)


def test_flipped_bytes_never_end_in_another_error(graph: Graph, tmp_path: Path):
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        with contextlib.suppress(GraphError):
            assert plain(load_graph(path)) == plain(graph)  # a date or another unused byte


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("nodes"), "KeyError: 'nodes'"),
        (lambda s: s["tensors"][1]["qparams"].update(scale=-1.0), "not a whole graph file"),
        (lambda s: s["tensors"][1].update(shape="66"), "not a whole graph file|breaks"),
        (lambda s: s["nodes"][1]["weight"].update(values=None), "a weight without values"),
        (lambda s: s["nodes"][1].update(op="conv3d"), "op 'conv3d' is unknown"),
        (lambda s: s["nodes"][1].update(bias="99.npy"), r"99\.npy"),
        (lambda s: s["tensors"][0].update(shape=[10**5] * 3), "; 67,108,864 values are allowed"),
    ],
)
def test_a_broken_structure_is_refused(graph: Graph, tmp_path: Path, change, message):
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    edit(path, change)
    with pytest.raises(GraphError, match=message):
        load_graph(path)


def test_content_that_unpacks_to_too_much_is_refused_unread(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("keras_quant.graph.store.UNPACKED_BYTES", 10_000)
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    load_graph(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(5 * 10**6))
    with pytest.raises(GraphError, match=r"and its content 5,0\d\d,\d+; .* are allowed"):
        load_graph(path)


def test_pickled_arrays_are_refused(graph: Graph, tmp_path: Path):
    path = tmp_path / "graph.kqg"
    path.write_bytes(pack_graph(graph))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with open(tmp_path / "pickled.npy", "wb") as stream:
        np.save(stream, np.array([{}], object), allow_pickle=True)
    arrays = [name for name in members if name.endswith(".npy")]
    members[arrays[0]] = (tmp_path / "pickled.npy").read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(GraphError, match="allow_pickle=False"):
        load_graph(path)

"""Runs with stages of random weights, which need no TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_quant.files import write_json
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.stages import Stage, cut
from keras_quant.graph.store import pack_graph
from keras_quant.preprocessing import UNIT
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import digest
from keras_quant.qparams import unsigned
from keras_quant.runs import records, stages
from keras_quant.runs.stages import Chain, Port, StagedFormat, StageFile, StagesRecord
from tests.emit.random_graphs import GraphBuilder
from tests.fake_runs import RECORD

CHAIN = Chain(images=1, codes_handed=1, codes_different=0, difference=0.0, top1_agreement=1.0)
TFLITE = FORMATS["tflite"].definition


def make_staged_run(
    path: Path, *, seed: int = 0, exits: int = 2, dataset: str = "digits", pixels: int = 8
) -> Path:
    """A run of two exits, or more, for the images of digits, in TFLite.

    Args:
        pixels: of a side, where the dataset's name asks for others.
    """
    folder = path / "export" / stages.FOLDER
    folder.mkdir(parents=True)
    data = replace(RECORD.dataset, name=dataset, input_shape=(pixels, pixels, 1))
    records.save(replace(RECORD, dataset=data), path)
    net = digits_net(seed, exits, pixels)
    files = tuple(
        written(stage, folder / f"stage{number}.tflite")
        for number, stage in enumerate(cut(net), start=1)
    )
    record = StagesRecord(
        kq_version="1",
        preprocess=UNIT,
        formats={"tflite": StagedFormat(graph_sha256="a" * 64, stages=files, chain=CHAIN)},
    )
    write_json(folder / stages.FILE_NAME, record)
    (folder / "model.kqgraph").write_bytes(pack_graph(net))
    return path


def digits_net(seed: int, exits: int = 2, pixels: int = 8) -> Graph:
    """Exits for images of 8x8 pixels, or others, at most three."""
    builder = GraphBuilder(np.random.default_rng(seed), (pixels, pixels, 1), power_of_two=True)
    answers = []
    for channels in (1, 8, 8)[:exits]:
        builder.add_linear("conv2d", (3, 3, channels, 8), qparams=unsigned(4, 0.5))
        trunk = builder.last
        builder.add_node("mean", qparams=unsigned(8, 0.5))
        builder.add_head(10)
        answers.append(builder.last)
        builder.last = trunk
    return replace(builder.graph(), outputs=tuple(answers))


def port(graph: Graph, name: str) -> Port:
    tensor = graph.tensors[name]
    if tensor.qparams is None:
        return Port(name=name, dtype="float32", shape=tensor.shape)
    shift = TFLITE.stored_shift(tensor.qparams)
    return Port(
        name=name,
        dtype="int8",
        shape=tensor.shape,
        scale=tensor.qparams.scale,
        zero_point=tensor.qparams.zero_point + shift,
        lowest=tensor.qparams.qmin + shift,
        highest=tensor.qparams.qmax + shift,
    )


def written(stage: Stage, path: Path) -> StageFile:
    content = TFLITE.emit(stage.graph)
    path.write_bytes(content)
    return StageFile(
        file=path.name,
        sha256=digest(content),
        answer=stage.answer,
        inputs=tuple(port(stage.graph, name) for name in stage.graph.inputs),
        outputs=tuple(port(stage.graph, name) for name in stage.graph.outputs),
        macs=1000,
        bit_operations=0,
    )

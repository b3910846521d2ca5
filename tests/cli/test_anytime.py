"""kq anytime, on stages of random weights that need no TensorFlow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from keras_quant.files import write_json
from keras_quant.graph.ir import Graph
from keras_quant.graph.passes.stages import Stage, cut
from keras_quant.preprocessing import UNIT
from keras_quant.proof.formats import FORMATS
from keras_quant.proof.record import digest
from keras_quant.qparams import unsigned
from keras_quant.runs import stages
from keras_quant.runs.stages import Chain, Port, StagedFormat, StageFile, StagesRecord
from tests.emit.random_graphs import GraphBuilder

CHAIN = Chain(images=1, codes_handed=1, codes_different=0, difference=0.0, top1_agreement=1.0)
TFLITE = FORMATS["tflite"].definition


def kq(*words: str) -> Result:
    return CliRunner().invoke(main, ["anytime", *words])


def digits_net() -> Graph:
    """Two exits for images of 8x8 pixels."""
    builder = GraphBuilder(np.random.default_rng(0), (8, 8, 1), power_of_two=True)
    answers = []
    for channels in (1, 8):
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
    zero_point = tensor.qparams.zero_point + TFLITE.stored_shift(tensor.qparams)
    scale = tensor.qparams.scale
    return Port(name=name, dtype="int8", shape=tensor.shape, scale=scale, zero_point=zero_point)


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


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "export" / stages.FOLDER
    folder.mkdir(parents=True)
    files = tuple(
        written(stage, folder / f"stage{number}.tflite")
        for number, stage in enumerate(cut(digits_net()), start=1)
    )
    record = StagesRecord(
        kq_version="1",
        preprocess=UNIT,
        formats={"tflite": StagedFormat(graph_sha256="a" * 64, stages=files, chain=CHAIN)},
    )
    write_json(folder / stages.FILE_NAME, record)
    return tmp_path / "run"


def parsed(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
def test_thresholds_are_chosen_drawn_and_then_used(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "exits.png"
    words = (str(run), "--dataset", "digits", "--budget", "0.75", "--plot", str(picture))
    record = parsed(kq("thresholds", *words, "--json"))
    assert picture.exists() and (run / "exits.json").exists()
    assert record["validation"]["mean_cost"] <= 0.75 * 2000
    answers = parsed(
        kq(
            "run",
            str(run),
            "--dataset",
            "digits",
            "--deadline-ms",
            "1e4",
            "--images",
            "9",
            "--json",
        )
    )
    assert answers["thresholds"] == record["thresholds"] and len(answers["answers"]) == 9
    assert {one["reason"] for one in answers["answers"]} <= {"sure", "last"}


@pytest.mark.slow
def test_tables_name_each_exit_and_how_images_ended(run: Path) -> None:
    shown = kq("thresholds", str(run), "--dataset", "digits").stdout
    assert "MACs up to it" in shown and shown.count("dense_") == 2
    shown = kq(
        "run", str(run), "--dataset", "digits", "--deadline-ms", "1e4", "--images", "5"
    ).stdout
    assert "ended by" in shown and "p99 ms" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "RUN", "--deadline-ms", "1e-6"), 2, "ms is the shortest possible here"),
        (("run", "RUN", "--deadline-ms", "5", "--format", "onnx"), 2, "has stages of tflite"),
        (("run", "NOWHERE", "--deadline-ms", "5"), 1, "no such run folder"),
        (("thresholds", "RUN", "--rule", "sure"), 2, "rules are entropy, max, margin"),
        (("thresholds", "RUN", "--accuracy", "1.5"), 2, "--accuracy is 1.5; a share above 0"),
        (("thresholds", "RUN", "--budget", "-1"), 2, "--budget is -1; a number above 0"),
        (("thresholds", "RUN", "--budget", "1", "--accuracy", "0.5"), 2, "give one of them"),
        (("thresholds", "RUN", "--budget", "0.1"), 2, "the first exit it is 1000 already"),
        (("thresholds", "RUN", "--cost", "time"), 2, "costs are macs, ms"),
        (("ensemble", "RUN"), 2, "an ensemble has two members or more"),
    ],
)
def test_bad_input_is_told(run: Path, words: tuple[str, ...], code: int, message: str) -> None:
    paths = {"RUN": str(run), "NOWHERE": str(run / "nowhere")}
    result = kq(*(paths.get(word, word) for word in words), "--dataset", "digits")
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_images_are_named_once(run: Path) -> None:
    result = kq("run", str(run), "digits", "--dataset", "digits", "--deadline-ms", "5")
    assert result.exit_code == 2 and "both name images" in result.output

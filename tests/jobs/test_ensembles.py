"""Exported files as one net: what is counted, and which members are refused. No TensorFlow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_quant.anytime.diversity import MEASURES
from keras_quant.data import load_dataset
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.errors import DataError, RunError, UsageError
from keras_quant.graph.reference import run_reference
from keras_quant.jobs.ensembles import ensemble
from keras_quant.pixels import normalize
from keras_quant.preprocessing import UNIT
from keras_quant.qparams import unsigned
from keras_quant.runs import RunFolder, ensembles, records
from keras_quant.runs.progress import Progress
from tests.emit.random_graphs import GraphBuilder
from tests.fake_runs import RECORD, make_run

QUIET = Progress(quiet=True)


def net(seed: int, classes: int = 10) -> GraphBuilder:
    builder = GraphBuilder(np.random.default_rng(seed), (8, 8, 1), power_of_two=True)
    builder.add_linear("conv2d", (3, 3, 1, 4), qparams=unsigned(4, 0.5))
    builder.add_node("reshape", qparams=builder.qparams())
    builder.add_head(classes)
    return builder


def made(path: Path, seed: int, classes: int = 10) -> Path:
    run = make_run(path, tflite=emit_tflite(net(seed, classes).graph()))
    records.save(replace(RECORD, scheme={"name": f"net{seed}"}), run)
    return run


@pytest.mark.slow
def test_members_and_all_together_are_judged_on_the_test_images(tmp_path: Path) -> None:
    runs = [made(tmp_path / f"run{seed}", seed) for seed in range(3)]
    done = ensemble(runs, progress=QUIET)
    data = load_dataset("digits")
    images = {"image": normalize(data.test.x, UNIT)}
    graphs = [net(seed).graph() for seed in range(3)]
    wanted = [run_reference(graph, images)[graph.outputs[0]] for graph in graphs]
    labels = np.argmax(wanted, axis=-1)
    accuracies = [float(np.mean(one == data.test.y)) for one in labels]
    assert [member.accuracy for member in done.members] == pytest.approx(accuracies)
    assert [member.scheme for member in done.members] == ["net0", "net1", "net2"]
    mean = np.mean(np.mean(wanted, axis=0).argmax(axis=-1) == data.test.y)
    assert done.accuracies["logits"] == pytest.approx(float(mean))
    assert done.size_bytes == sum(member.file.stat().st_size for member in done.members)
    assert done.images == len(data.test)
    assert max(accuracies) <= done.any_right <= 1
    right = labels == data.test.y
    assert done.diversity == {name: measure(right) for name, measure in MEASURES.items()}
    assert "sum" not in done.accuracies and done.combination == "mean"
    weights = (-1.0, 0.5, 0.0)
    ensembles.save(
        tmp_path / "e", runs, kind="boosting", combination="sum", weights=weights, created=""
    )
    boosted = ensemble([tmp_path / "e"], progress=QUIET)
    summed = np.tensordot(weights, wanted, axes=1).argmax(axis=-1)
    assert boosted.accuracies["sum"] == pytest.approx(float(np.mean(summed == data.test.y)))
    assert boosted.combination == "sum"
    assert tuple(member.weight for member in boosted.members) == weights


def test_members_of_other_classes_are_named(tmp_path: Path) -> None:
    runs = [made(tmp_path / "ten", 0), made(tmp_path / "seven", 1, classes=7)]
    with pytest.raises(DataError, match=r"the 10 classes of digits apart: .*ten has 10, .*has 7"):
        ensemble(runs, progress=QUIET)


def test_runs_without_a_file_and_lone_ones_are_named(tmp_path: Path) -> None:
    runs = [made(tmp_path / "one", 0), made(tmp_path / "two", 1)]
    with pytest.raises(UsageError, match="1 run is given; an ensemble has two"):
        ensemble(runs[:1], progress=QUIET)
    ensembles.save(
        tmp_path / "e", runs, kind="bagging", combination="mean", weights=(1, 1), created=""
    )
    with pytest.raises(UsageError, match="e: is an ensemble; give it alone, or give runs"):
        ensemble([*runs, tmp_path / "e"], progress=QUIET)
    with pytest.raises(UsageError, match="--format 'tflit' is not known; close names: tflite"):
        ensemble(runs, form="tflit", progress=QUIET)
    with pytest.raises(
        RunError,
        match=r"one: no onnx file there. Export it: kq export [\s\S]*two: no onnx file",
    ):
        ensemble(runs, form="onnx", progress=QUIET)


def test_a_file_that_is_not_the_proven_one_is_refused(tmp_path: Path) -> None:
    runs = [made(tmp_path / "one", 0), made(tmp_path / "two", 1)]
    RunFolder(runs[1]).tflite.write_bytes(RunFolder(runs[0]).tflite.read_bytes())
    with pytest.raises(RunError, match=r"two.*is not the file that parity.json beside it proved"):
        ensemble(runs, progress=QUIET)

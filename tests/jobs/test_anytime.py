"""A net with an exit, from training to answers in time; and what is refused on the way."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.errors import (  # noqa: E402
    DataError,
    GraphError,
    ParityError,
    RunError,
    UsageError,
)
from keras_quant.graph.reference import run_reference  # noqa: E402
from keras_quant.graph.store import load_graph  # noqa: E402
from keras_quant.jobs.answer_in_time import AnytimeSettings, run_anytime  # noqa: E402
from keras_quant.jobs.anytime import Asked, choose_thresholds, open_stages  # noqa: E402
from keras_quant.jobs.export import Exported, export_path  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.pixels import normalize  # noqa: E402
from keras_quant.proof import stages as staging  # noqa: E402
from keras_quant.proof.formats import FORMATS  # noqa: E402
from keras_quant.runners.onnxruntime import OnnxRuntimeRunner  # noqa: E402
from keras_quant.runs import exits, records, stages  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402

QUIET = Progress(quiet=True)
FLOAT32_ROUNDING = 1e-5
SETTINGS = TrainSettings(
    scheme=scheme_from_bits("w4a8"), model="mlp", model_options={"units": 16}, exits=("relu1",)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "run"
    train(dataclasses.replace(SETTINGS, epochs=3), path, progress=QUIET)
    export(path, "tflite", "onnx")
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def export(run: Path, *targets: str, out: Path | None = None) -> Exported:
    return export_path(
        run,
        [FORMATS[name] for name in targets],
        dataset=None,
        out=out,
        images=100,
        baselines=False,
        stages=True,
        overwrite=False,
        trust=False,
        progress=QUIET,
    )


def test_exits_stand_in_the_record_and_their_order_in_the_model(trained: Path) -> None:
    assert records.load(trained).model.exits == ("relu1",)
    assert load_model(trained / "model.keras").output_names == ["exit1_logits", "logits"]


@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_stages_one_after_the_other_answer_as_the_whole_graph(trained: Path, form: str) -> None:
    record = stages.load(trained / "export" / stages.FOLDER)
    chain = record.formats[form].chain
    assert (chain.images, chain.codes_different, chain.top1_agreement) == (100, 0, 1.0)
    assert chain.codes_handed == 100 * 16
    opened = open_stages(trained, form)
    graph = load_graph(opened.folder / "model.kqgraph")
    images = load_dataset("digits").test.x[:20]
    inputs = opened.inputs(images)
    wanted = run_reference(graph, {graph.inputs[0]: normalize(images, opened.preprocess)})
    known = dict(inputs)
    for stage, name in zip(opened.loaded, graph.outputs, strict=True):
        found = stage.run(known)
        np.testing.assert_allclose(found, wanted[name], rtol=0, atol=FLOAT32_ROUNDING)


def test_stages_for_tensorrt_hand_over_floats(run: Path) -> None:
    export(run, "tensorrt")
    record = stages.load(run / "export" / stages.FOLDER)
    assert set(record.formats) == {"tflite", "onnx", "tensorrt"}
    (port,) = record.formats["tensorrt"].stages[1].inputs
    assert (port.dtype, port.scale) == ("float32", None)
    assert OnnxRuntimeRunner(run / "export/stages/tensorrt/stage2.onnx").inputs == (port.name,)


def test_a_chain_that_answers_otherwise_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(staging._Staged, "_shift", lambda self, qparams: 1)
    with pytest.raises(ParityError, match="one after the other: .* codes differ"):
        export(run, "tflite", out=tmp_path / "out")
    folder = tmp_path / "out" / "stages"
    assert (folder / "stage2.failed-parity.tflite").exists()
    assert stages.load(folder).formats == {}


def test_thresholds_are_chosen_for_what_the_last_exit_reaches(run: Path) -> None:
    record = choose_thresholds(run, Asked(), progress=QUIET)
    assert exits.load(run) == record
    assert record.validation.accuracy >= record.exits[-1].validation_accuracy
    assert record.validation.mean_cost <= record.exits[-1].cost
    assert sum(record.test.exit_shares) == pytest.approx(1)
    cheap = choose_thresholds(run, Asked(budget=record.exits[0].cost, rule="max"), progress=QUIET)
    assert cheap.test.exit_shares[0] > 0.9


def test_images_are_answered_within_a_deadline(run: Path) -> None:
    choose_thresholds(run, Asked(budget=1.0, rule="margin"), progress=QUIET)
    done = run_anytime(run, AnytimeSettings(deadline_ms=1e4, count=20), progress=QUIET)
    assert len(done.answers) == 20 and done.rule == "margin" and done.late_ms == 0
    without = AnytimeSettings(deadline_ms=1e4, count=5, use_thresholds=False)
    alone = run_anytime(run, without, progress=QUIET)
    assert {answer.reason for answer in alone.answers} == {"last"}
    with pytest.raises(UsageError, match="is shorter than the first stage: .* ms is the shortest"):
        run_anytime(run, AnytimeSettings(deadline_ms=1e-6, count=5), progress=QUIET)


def test_thresholds_of_other_stages_are_refused(run: Path) -> None:
    choose_thresholds(run, Asked(), form="onnx", progress=QUIET)
    with pytest.raises(RunError, match="chosen for other stages .onnx.*--no-thresholds"):
        run_anytime(run, AnytimeSettings(deadline_ms=1e4, form="tflite"), progress=QUIET)


def test_a_stage_that_is_not_the_proven_one_is_refused(run: Path) -> None:
    path = run / "export" / "stages" / "stage2.tflite"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(RunError, match=r"stage2\.tflite: is not the file that .* says was proven"):
        open_stages(run)
    path.unlink()
    with pytest.raises(RunError, match=r"stage2\.tflite: cannot be read"):
        open_stages(run)


def test_images_of_other_classes_choose_nothing(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (40, 8, 8, 1), np.uint8), np.arange(40) % 3
    np.savez(tmp_path / "three.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(DataError, match=r"tells 10 classes apart; .*has 3"):
        choose_thresholds(run, Asked(), dataset=str(tmp_path / "three.npz"), progress=QUIET)
    np.savez(tmp_path / "none.npz", x_train=x)
    with pytest.raises(DataError, match="has no labels, and thresholds are chosen by what is"):
        choose_thresholds(run, Asked(), dataset=str(tmp_path / "none.npz"), progress=QUIET)


def test_a_run_without_stages_says_how_to_make_them(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "export" / "stages")
    with pytest.raises(RunError, match=r"has no stages. Write them first: kq export .* --stages"):
        open_stages(run)
    with pytest.raises(RunError, match="no such run folder"):
        open_stages(tmp_path / "nowhere")


def test_stages_of_another_format_say_which_there_are(run: Path) -> None:
    with pytest.raises(UsageError, match="has stages of tflite, onnx"):
        open_stages(run, "tensorrt")


def test_a_model_of_one_output_makes_no_stages(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, exits=(), epochs=1)
    train(settings, tmp_path / "plain", progress=QUIET)
    with pytest.raises(GraphError, match="has one output, .*--exits LAYER"):
        export(tmp_path / "plain", "tflite")
    # Its weights are those of the model that gets exits; only these are new.
    # All answers learn from the last of the float model.
    fresh = dataclasses.replace(SETTINGS, parent=tmp_path / "plain", epochs=1, distill=0.5)
    train(fresh, tmp_path / "with", progress=QUIET)
    assert json.loads((tmp_path / "with" / "run.json").read_text())["model"]["exits"] == ["relu1"]


@pytest.mark.parametrize("different", [{"orthogonal": True}, {"self_distill": 0.5}], ids=str)
def test_exits_are_trained_as_asked(tmp_path: Path, different: dict[str, Any]) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=2, **different)
    train(settings, tmp_path / "whole", progress=QUIET)
    training = records.load(tmp_path / "whole").training
    assert training is not None
    assert (training.orthogonal, training.self_distill) == (
        settings.orthogonal,
        settings.self_distill,
    )
    plain = dataclasses.replace(SETTINGS, epochs=2)
    train(plain, tmp_path / "plain", progress=QUIET)
    weights = [load_model(tmp_path / name / "model.keras") for name in ("whole", "plain")]
    first, second = (model.get_weights()[0] for model in weights)
    assert not np.array_equal(first, second)

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings(
        "ignore:You are saving your model as an HDF5", "ignore:The .keras.constraints.serialize"
    ),
]

from keras_quant import files  # noqa: E402
from keras_quant.calibration.collect import collect  # noqa: E402
from keras_quant.calibration.quantize import quantize  # noqa: E402
from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.emit.tflite.options import TFLiteOptions  # noqa: E402
from keras_quant.errors import (  # noqa: E402
    LoweringError,
    ModelError,
    ParityError,
    RunError,
    UsageError,
)
from keras_quant.files import FileError  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.graph.store import load_graph  # noqa: E402
from keras_quant.graph.text import format_graph  # noqa: E402
from keras_quant.graph.verify import verify  # noqa: E402
from keras_quant.jobs import export as exporting  # noqa: E402
from keras_quant.jobs.evaluate import evaluate  # noqa: E402
from keras_quant.jobs.export import Exported, export_path  # noqa: E402
from keras_quant.jobs.inspection import graph_of  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.lower import lower  # noqa: E402
from keras_quant.model.files import load_model, save_model  # noqa: E402
from keras_quant.model.logits import AnswerFunction  # noqa: E402
from keras_quant.pixels import normalize  # noqa: E402
from keras_quant.prepare import plan  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.proof.baseline import without_quantizers  # noqa: E402
from keras_quant.proof.formats import FORMATS, Format  # noqa: E402
from keras_quant.proof.record import digest, is_recorded, read_records  # noqa: E402
from keras_quant.proof.write import Export, foreign_files  # noqa: E402
from keras_quant.runs import GRAPH_NAME  # noqa: E402
from keras_quant.runs.lock import LOCK_NAME, locked  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

PARITY = "parity.json"
FLOAT32_ROUNDING = 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "run"
    settings = TrainSettings(
        scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 16}, epochs=1
    )
    train(settings, path, progress=Progress(quiet=True))
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run that a test may change."""
    return shutil.copytree(trained, tmp_path / "run")


TFLITE, ONNX = FORMATS["tflite"], FORMATS["onnx"]


def export_all(path: Path, *formats: Format, **changes: Any) -> tuple[Export, ...]:
    return export_whole(path, *formats, **changes).files


def export_whole(path: Path, *formats: Format, **changes: Any) -> Exported:
    options = {
        **{"dataset": None, "out": None, "images": 0},
        **{"baselines": False, "overwrite": False, "trust": False},
    }
    return export_path(path, formats, **options | changes, progress=Progress(quiet=True))


def export(path: Path, **changes: Any) -> Export:
    (done,) = export_all(path, TFLITE, **changes)
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != LOCK_NAME)


def gate_files(folder: Path) -> list[str]:
    """Names of the files that the gate decides on."""
    return [name for name in names(folder) if name not in (exporting.MOVED_NAME, GRAPH_NAME)]


def parity_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "parity.json").read_text())["tflite"]


def lenet(path: Path, classes: int = 10) -> Path:
    keras.utils.set_random_seed(0)
    save_model(build("lenet5", (8, 8, 1), classes), path)
    return path


@pytest.mark.slow
def test_export_of_a_run_is_the_file_that_training_wrote(run: Path, tmp_path: Path) -> None:
    whole = export_whole(run, TFLITE, out=tmp_path / "again")
    (done,) = whole.files
    assert done.path == tmp_path / "again" / "model.tflite"
    assert done.path.read_bytes() == (run / "export" / "model.tflite").read_bytes()
    assert (whole.keras.moved_channels, whole.keras.shifts) == (0, ())
    assert whole.keras.scores == whole.keras.given_scores
    assert done.parity.codes_different == 0
    assert done.accuracy == evaluate(run)[0].accuracy
    assert names(tmp_path / "again") == ["model.kqgraph", "model.tflite", "parity.json"]
    verify(load_graph(tmp_path / "again" / "model.kqgraph"))


@pytest.mark.slow
def test_record_of_the_proof_is_that_of_the_file(run: Path) -> None:
    done = export(run)
    record = parity_of(done.path.parent)
    assert record["sha256"] == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert record["size_bytes"] == done.size_bytes == done.path.stat().st_size
    assert (record["file"], record["images"], record["passed"]) == ("model.tflite", 359, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "limit"),
    [(["tflite"], None), (["tensorrt"], None), (["onnx"], 64), (["tflite", "onnx"], 64)],
    ids=str,
)
def test_only_formats_that_are_asked_for_limit_weight_codes(names: list[str], limit) -> None:
    images = load_dataset("digits").train.x[:64]
    source = build("cnn", images.shape[1:], 10)
    scheme = scheme_from_bits("w4a8")
    reals = normalize(images, UNIT)
    statistics = collect(plan(source, scheme), source, reals)
    ideal = lower(quantize(source, scheme, statistics))
    limits = exporting.stored_limits([FORMATS[name] for name in names])(ideal)
    second = [node.name for node in ideal.nodes if node.op == "conv2d"][1]
    assert limits.get(second) == limit


def test_fewer_images_are_proven_when_asked(run: Path, tmp_path: Path) -> None:
    assert export(run, out=tmp_path / "out", images=25).parity.images == 25


def test_what_training_left_is_replaced_unasked(run: Path) -> None:
    before = parity_of(run / "export")
    export_all(run, TFLITE.with_options(TFLiteOptions(pack="none")), ONNX)
    assert parity_of(run / "export")["size_bytes"] > before["size_bytes"]
    assert gate_files(run / "export") == ["model.onnx", "model.tflite", PARITY]


@pytest.mark.parametrize("parity", ["as it was", "[]", "{", '{"tflite": 1}', '{"tflite": {}}'])
def test_file_that_no_proof_says_is_ours_is_replaced_only_when_told(run: Path, parity: str) -> None:
    (run / "export" / "model.tflite").write_bytes(b"old")
    if parity != "as it was":
        (run / "export" / PARITY).write_text(parity)
    with pytest.raises(RunError, match="model.tflite exists, and parity.json .*give --overwrite"):
        export(run)
    assert (run / "export" / "model.tflite").read_bytes() == b"old"
    assert export(run, overwrite=True).path.read_bytes() != b"old"
    assert parity_of(run / "export")["passed"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_file_is_exported_where_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    model = build("lenet5", (8, 8, 1), 10)
    model.save(path)
    with pytest.raises(UsageError, match="is no run: say where the export goes with --out FOLDER"):
        export(path, dataset="digits")
    done = export(path, dataset="digits", out=tmp_path / "out", images=50)
    assert done.parity.passed
    keras_row, tflite_row = (
        evaluate(file, dataset="digits")[0].accuracy for file in (path, done.path)
    )
    assert keras_row == tflite_row


@pytest.mark.slow
def test_moved_biases_are_left_beside_the_file(tmp_path: Path) -> None:
    raw = unsnapped_model(tmp_path)
    whole = export_whole(raw, TFLITE, dataset="digits", out=tmp_path / "out")
    (done,), keras = whole.files, whole.keras
    assert keras.moved_channels > 0
    assert 0 < keras.largest_shift_steps < 1
    (shift,) = keras.shifts
    test = load_dataset("digits").test
    given, moved = (
        AnswerFunction(load_model(file))(normalize(test.x, UNIT))[0]
        for file in (raw, tmp_path / "out" / "model.moved-biases.keras")
    )
    assert shift.difference == np.abs(given - moved).max() > 0
    assert shift.relative == pytest.approx(rms(given - moved) / rms(moved), rel=FLOAT32_ROUNDING)
    assert shift.top1_agreement == np.mean(given.argmax(1) == moved.argmax(1))
    assert keras.given_scores["logits"]["accuracy"] == np.mean(given.argmax(1) == test.y)
    record = parity_of(tmp_path / "out")["bias_snapping"]["moved_from_given"]
    assert record == [dataclasses.asdict(shift)]
    assert "model.moved-biases.keras" in names(tmp_path / "out")
    moved = tmp_path / "out" / "model.moved-biases.keras"
    assert evaluate(moved, dataset="digits")[0].accuracy == done.accuracy
    again = export(moved, dataset="digits", out=tmp_path / "again")
    assert again.path.read_bytes() == done.path.read_bytes()


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def unsnapped_model(folder: Path) -> Path:
    """A trained 8-bit model, as it is before its biases are moved."""
    path = folder / "raw.keras"

    def stop(model: keras.Model, **options: Any) -> None:
        save_model(model, path)
        raise InterruptedError

    settings = TrainSettings(scheme=scheme_from_bits("8"), model="lenet5", epochs=1)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr("keras_quant.jobs.finish.lower_exactly", stop)
        train(settings, folder / "run", progress=Progress(quiet=True))
    return path


def wrong_file(graph: Graph, **options: Any) -> bytes:
    """The file of the graph with its first kernel's rows turned round."""
    nodes = list(graph.nodes)
    first = next(i for i, node in enumerate(nodes) if node.weight is not None)
    kernel = nodes[first].weight
    turned = dataclasses.replace(kernel, values=np.roll(kernel.values, 1, axis=0))
    nodes[first] = dataclasses.replace(nodes[first], weight=turned)
    return emit_tflite(dataclasses.replace(graph, nodes=tuple(nodes)), **options)


@pytest.mark.parametrize("probe_too", [True, False])
def test_file_that_answers_otherwise_never_gets_the_final_name(
    run: Path, monkeypatch: pytest.MonkeyPatch, probe_too: bool
) -> None:
    def emit(graph: Graph, **options: Any) -> bytes:
        is_probe = options["outputs"] is not None
        return (wrong_file if probe_too or not is_probe else emit_tflite)(graph, **options)

    monkeypatch.setattr("keras_quant.proof.formats.tflite.emit_tflite", emit)
    with pytest.raises(ParityError, match="does not answer as the model does.*See parity.json"):
        export(run, overwrite=True)
    assert gate_files(run / "export") == ["model.failed-parity.tflite", "parity.json"]
    record = parity_of(run / "export")
    assert (record["passed"], record["file"]) == (False, "model.failed-parity.tflite")
    assert (record["codes_different"] > 0) == probe_too
    assert record["outputs"][0]["difference"] > record["tolerance"]
    if probe_too:
        assert record["first_different"] == "dense1"


@pytest.mark.slow
def test_mended_export_takes_the_failed_file_away(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("keras_quant.proof.formats.tflite.emit_tflite", wrong_file)
        with pytest.raises(ParityError):
            export(run, overwrite=True)
    export(run)
    assert gate_files(run / "export") == ["model.tflite", "parity.json"]
    assert parity_of(run / "export")["passed"]


@pytest.mark.slow
def test_every_format_is_proven_and_recorded(run: Path, tmp_path: Path) -> None:
    done = export_all(run, *FORMATS.values(), out=tmp_path / "out")
    assert [export.format for export in done] == list(FORMATS)
    assert all((tmp_path / "out" / form.file_name).is_file() for form in FORMATS.values())
    assert names(tmp_path / "out") == [
        *("model.kqgraph", "model.onnx", "model.tflite", PARITY, "tensorrt"),
    ]
    bundle = tmp_path / "out" / "tensorrt"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["scheme"] == "w4a4"
    assert (bundle / "labels.txt").read_text().split() == list("0123456789")
    record = json.loads((tmp_path / "out" / PARITY).read_text())
    for export in done:
        assert export.parity.codes_different == 0
        assert (
            record[export.format]["sha256"] == hashlib.sha256(export.path.read_bytes()).hexdigest()
        )
        assert export.accuracy == done[0].accuracy
        assert evaluate(export.path, dataset="digits")[0].accuracy == export.accuracy


@pytest.mark.slow
def test_a_later_format_keeps_the_proof_of_an_earlier_one(run: Path) -> None:
    export_all(run, ONNX)
    record = json.loads((run / "export" / PARITY).read_text())
    assert {name: entry["file"] for name, entry in record.items()} == {
        "tflite": "model.tflite",
        "onnx": "model.onnx",
    }
    (run / "export" / "model.tflite").unlink()
    export_all(run, ONNX, overwrite=True)
    assert list(json.loads((run / "export" / PARITY).read_text())) == ["onnx"]


def test_a_format_that_fails_does_not_keep_the_others_back(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_quant.proof.formats.tflite.emit_tflite", wrong_file)
    with pytest.raises(ParityError, match="model.failed-parity.tflite: the file does not answer"):
        export_all(run, TFLITE, ONNX, overwrite=True)
    wanted = ["model.failed-parity.tflite", "model.onnx", PARITY]
    assert gate_files(run / "export") == wanted


@pytest.mark.slow
def test_float_files_of_the_model_are_written_beside(run: Path, tmp_path: Path) -> None:
    export_all(run, TFLITE, ONNX, out=tmp_path / "out", images=20, baselines=True)
    images = normalize(load_dataset("digits").test.x[:1], UNIT)
    runners = [
        form.definition.runner(tmp_path / "out" / f"model.float{form.suffix}")
        for form in (TFLITE, ONNX)
    ]
    answers = [next(iter(runner.run({runner.inputs[0]: images}).values()))[0] for runner in runners]
    np.testing.assert_allclose(*answers, atol=FLOAT32_ROUNDING)
    (wanted,) = AnswerFunction(without_quantizers(load_model(run / "model.keras")))(images)
    np.testing.assert_allclose(answers[0], wanted[0], atol=FLOAT32_ROUNDING)


def test_a_run_that_another_process_works_on_is_not_exported(run: Path, tmp_path: Path) -> None:
    with locked(run):
        with pytest.raises(RunError, match=f"process {os.getpid()} works on it"):
            export(run, images=20)
        export(run, images=20, out=tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["model.tflite", "parity.json"])
def test_full_disk_leaves_the_export_that_was_there(
    run: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = {path: path.read_bytes() for path in (run / "export").iterdir()}
    stem, suffix = name.split(".")

    def refuse(path: Path) -> None:
        if path.name.startswith(f".{stem}") and path.suffix == f".{suffix}":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "_sync", refuse)
    with pytest.raises(FileError, match=f"{name}: not written: No space left on device. Free some"):
        export(run, out=run / "export", overwrite=True, dataset="digits", images=20)
    assert {path: path.read_bytes() for path in (run / "export").iterdir()} == before


class Killed(BaseException):
    """In place of a kill, behind which nothing is done either."""


def kill_at(rename: int, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, left = os.replace, [rename]

    def replace_or_die(source: Path, target: Path) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", replace_or_die)


@pytest.mark.slow
@pytest.mark.parametrize("rename", range(4))
def test_killed_while_files_are_replaced_no_proof_is_of_another_file(
    run: Path, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    pixels = TFLITE.with_options(TFLiteOptions(input="uint8"))
    folder = run / "export"
    before = digest((folder / "model.tflite").read_bytes())
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(rename, patch)
        export_all(run, pixels, images=20)
    found = json.loads((folder / PARITY).read_text())
    assert ("tflite" in found) == (rename == 0)
    assert all(is_recorded(folder, record) for record in read_records(folder).values())
    assert (digest((folder / "model.tflite").read_bytes()) == before) == (rename < 2)
    assert foreign_files(folder, [TFLITE, ONNX]) == []  # ours, whichever it is
    (again,) = export_all(run, pixels, images=20)
    assert list(json.loads((folder / PARITY).read_text())) == ["tflite"]
    assert is_recorded(folder, read_records(folder)["tflite"]) and again.parity.passed


@pytest.mark.slow
def test_what_a_kill_left_of_another_format_stays_ours(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(3, patch)  # behind parity.json, model.tflite (the same) and model.onnx
        export_all(run, TFLITE, ONNX, images=20)
    export(run, images=20)
    assert foreign_files(run / "export", [ONNX]) == []
    assert list(read_records(run / "export")) == ["tflite"]
    (run / "export" / "model.onnx").write_bytes(b"another")
    assert foreign_files(run / "export", [ONNX]) == [run / "export" / "model.onnx"]


@pytest.mark.slow
def test_leftovers_of_a_killed_export_are_swept(run: Path) -> None:
    export_all(run, FORMATS["tensorrt"], images=20)
    leftovers = [
        run / "export" / ".model.tmp-1.tflite",
        run / "export" / "tensorrt" / "samples" / ".image.tmp-1.npy",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    export(run, images=20)
    assert not any(path.exists() for path in leftovers)


@pytest.mark.parametrize(
    ("name", "error", "helpful"),
    [
        ("gone", RunError, "gone: no such run; give a run's folder, or a .keras, .h5, .hdf5 file"),
        ("gone.keras", ModelError, "gone.keras: no such file"),
        (
            "model.tflite",
            RunError,
            "no such run; give a run's folder, or a .keras, .h5, .hdf5 file",
        ),
        ("empty", RunError, "not a run folder: it has no run.json"),
    ],
)
def test_path_that_is_no_model_is_explained(
    tmp_path: Path, name: str, error: type[Exception], helpful: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"")
    with pytest.raises(error, match=helpful):
        export(tmp_path / name, dataset="digits", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_of_other_classes_prove_a_model_and_do_not_judge_it(tmp_path: Path) -> None:
    path = lenet(tmp_path / "model.keras", classes=7)
    done = export_whole(path, TFLITE, dataset="digits", out=tmp_path / "out", images=20)
    (file,) = done.files
    assert done.keras.scores == file.scores == {}
    assert file.parity.passed
    assert file.parity.keras_top1_agreement == 1


def test_lambda_layer_is_refused_by_safety_and_then_by_lowering(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1))
    x = keras.layers.Lambda(lambda x: 2 * x, name="twice")(image)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    save_model(model, tmp_path / "model.keras")
    with pytest.raises(ModelError, match="layer twice: a Lambda layer holds Python code"):
        export(tmp_path / "model.keras", dataset="digits", out=tmp_path / "out")
    with pytest.raises(LoweringError, match="twice"):
        export(tmp_path / "model.keras", dataset="digits", out=tmp_path / "out", trust=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_saved_model_is_exported_evaluated_and_inspected_as_the_file_is(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    load_model(run / "model.keras").save(folder, save_format="tf")
    exported = [
        export(source, out=tmp_path / name, dataset="digits").path.read_bytes()
        for name, source in (("one", run / "model.keras"), ("other", folder))
    ]
    assert exported[0] == exported[1]
    (row,) = evaluate(folder, dataset="digits")
    (of_file,) = evaluate(run / "model.keras", dataset="digits")
    assert row.outputs == of_file.outputs
    graphs = [
        graph_of(str(path), scheme=None, dataset=None) for path in (folder, run / "model.keras")
    ]
    assert format_graph(graphs[0]) == format_graph(graphs[1])

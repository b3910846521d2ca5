"""Files, runs and bundles that are measured, and what is said of them."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from keras_quant.bench import worker
from keras_quant.bench.measure import Settings
from keras_quant.bench.records import BenchRecord, Load, Measurement
from keras_quant.bench.runtimes import RUNTIMES
from keras_quant.emit.bundle.make import MANIFEST_NAME
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.emit.tflite.options import TFLiteOptions
from keras_quant.errors import ModelError, UsageError
from keras_quant.jobs import bench as job
from keras_quant.jobs import candidates
from keras_quant.jobs.bench import bench, best_batches, judge
from keras_quant.jobs.candidates import BenchSettings, find_files, make_candidates
from tests.bench.test_records import a_measurement, a_record
from tests.emit.random_graphs import small_classifier
from tests.runners.test_runners import with_batch

QUICK = Settings(duration_s=0.01, loads=2, rounds=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    graph = small_classifier().graph()
    (folder / "any.tflite").write_bytes(emit_tflite(graph))
    (folder / "of2.tflite").write_bytes(emit_tflite(graph, options=TFLiteOptions(batch=2)))
    (folder / "model.onnx").write_bytes(emit_onnx_x86(graph))
    return folder


@pytest.fixture
def described_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describes files in this process, which starts no other one."""
    monkeypatch.setattr(
        candidates, "describe", lambda file, name: worker.describe(file, runtime=name)
    )


@pytest.mark.slow
def test_files_of_two_runtimes_are_measured_and_compared(files: Path) -> None:
    paths = [files / "any.tflite", files / "model.onnx"]
    record = bench(paths, BenchSettings(batches=(2,), timing=QUICK))
    a, b = record.measurements
    assert (a.name, a.runtime, b.name, b.runtime) == (
        *("any.tflite", "litert"),
        *("model.onnx", "onnxruntime"),
    )
    assert a.kernels == ("XNNPACK",)
    assert any("QLinearConv" in kernel for kernel in b.kernels)
    assert [len(load.rounds) for load in a.loads] == [2, 2]
    assert {shape[0] for one in (a, b) for shape in one.input_shapes.values()} == {2}
    assert [(v.name, v.other, v.paired) for v in record.verdicts] == [
        ("model.onnx", "any.tflite", True)
    ]
    assert all(one.memory_peak_bytes > 1e6 and one.load_ms > 0 for one in (a, b))
    for one in (a, b):
        added = [load.memory_peak_bytes - load.memory_before_bytes for load in one.loads]
        assert 0 < one.memory_added_bytes == max(added)
    assert record.machine.environment["cpu"]


@pytest.mark.usefixtures("described_here")
def test_a_fixed_batch_is_taken_and_another_one_is_refused(files: Path) -> None:
    file = files / "of2.tflite"
    (candidate,) = make_candidates([(file, "litert")], BenchSettings())
    assert (candidate.batch, candidate.name) == (2, "of2.tflite")
    with pytest.raises(UsageError, match="of2.tflite: takes 2 images a call, and not 8. Leave out"):
        bench([file], BenchSettings(batches=(2, 8)))


@pytest.mark.usefixtures("described_here")
def test_a_free_dimension_is_refused(files: Path, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(with_batch((files / "model.onnx").read_bytes(), "n"))
    dimension = model.graph.input[0].type.tensor_type.shape.dim[1]
    dimension.Clear()
    dimension.dim_param = "height"
    path = tmp_path / "free.onnx"
    onnx.save(model, path)
    with pytest.raises(UsageError, match=r"free.onnx: its input .* has the shape \(any, "):
        bench([path], BenchSettings())


@pytest.fixture
def free(files: Path, tmp_path: Path) -> Path:
    """A file whose batch and height are open; its convolutions and mean take any."""
    model = onnx.load_model_from_string(with_batch((files / "model.onnx").read_bytes(), "n"))
    dimension = model.graph.input[0].type.tensor_type.shape.dim[1]
    dimension.Clear()
    dimension.dim_param = "height"
    path = tmp_path / "free.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.usefixtures("described_here")
def test_a_free_dimension_is_filled_in(free: Path) -> None:
    (name,) = (one.name for one in worker.describe(free, runtime="onnxruntime").inputs)
    settings = BenchSettings(input_shapes={name: (2, 5, 5, 3)})
    (found,) = make_candidates([(free, "onnxruntime")], settings)
    assert (found.batch, found.inputs) == (2, {name: ("float32", (2, 5, 5, 3))})


@pytest.mark.usefixtures("described_here")
@pytest.mark.parametrize(
    ("shapes", "batches", "told"),
    [
        ({"imag": (1, 5, 5, 3)}, (), "--input-shape imag: no file has such an input; close names"),
        ({"image": (1, 5, 4, 3)}, (), r"image=1x5x4x3 does not fit its shape \(any, any, 5, 3\)"),
        ({"image": (1, 5, 5)}, (), "does not fit its shape"),
        ({"image": (1, 5, 5, 3)}, (8,), "names a batch, and so does --batch; give one"),
        ({}, (), "Say it with --input-shape image=1x224x5x3, say"),
    ],
)
def test_shapes_that_do_not_fit_are_told(
    free: Path, shapes: dict[str, tuple[int, ...]], batches: tuple[int, ...], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        bench([free], BenchSettings(input_shapes=shapes, batches=batches))


@pytest.mark.usefixtures("described_here")
def test_one_file_is_run_by_several_runtimes(files: Path) -> None:
    names = ("litert", "litert-compiled")
    found = find_files([files / "any.tflite"], names, print)
    assert [runtime for _, runtime in found] == list(names)
    made = make_candidates(found, BenchSettings(runtimes=names))
    assert [one.name for one in made] == ["any.tflite, litert", "any.tflite, litert-compiled"]


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name.startswith("litert-comp")])
def test_compiled_models_answer_as_the_interpreter(files: Path, runtime: str) -> None:
    file = files / "any.tflite"
    description = worker.describe(file, runtime=runtime)
    (given,) = description.inputs
    array = np.random.default_rng(0).random((3, *given.shape), np.float32)
    answers = []
    for name in ("litert", runtime):
        module, settings = importlib.import_module(RUNTIMES[name].module), RUNTIMES[name].settings
        infer = module.prepare(file, threads=1, **settings)()({given.name: array})
        answers.append(np.ravel(infer()[0]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-6)
    assert description.kernels[0].startswith("CompiledModel")


def test_a_damaged_file_is_an_error_that_names_it(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes((files / "any.tflite").read_bytes()[:500])
    with pytest.raises(ModelError, match="cut.tflite"):
        bench([path], BenchSettings())


@pytest.mark.usefixtures("described_here")
def test_names_tell_threads_and_batches_apart(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = files / "any.tflite"
    settings = BenchSettings(threads=(1, 2), batches=(1, 8))
    found = make_candidates([(file, "litert")] * 2, settings)
    assert [one.name for one in found[:3]] == [
        "any.tflite, 1 threads, batch 1",
        "any.tflite, 1 threads, batch 8",
        "any.tflite, 2 threads, batch 1",
    ]
    assert found[4].name == "any.tflite, 1 threads, batch 1 (2)"
    assert [len(group) for group in job._groups(found)] == [2, 2, 2, 2]


def test_what_another_runtime_runs_is_left_out_and_said(files: Path) -> None:
    said: list[str] = []
    found = find_files([files / "any.tflite", files / "model.onnx"], ["litert"], said.append)
    assert [runtime for _, runtime in found] == ["litert"]
    assert said == [f"{files}/model.onnx: left out, onnxruntime runs it"]
    with pytest.raises(UsageError, match="nothing is left to measure with --runtime keras"):
        find_files([files / "any.tflite"], ["keras"], said.append)
    with pytest.raises(UsageError, match="'lite' is not known; close names: litert"):
        bench([files / "any.tflite"], BenchSettings(runtimes=("lite",)))


def test_a_bundle_stands_for_its_file(files: Path, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).touch()
    (tmp_path / "model.onnx").write_bytes((files / "model.onnx").read_bytes())
    assert find_files([tmp_path], (), print) == [(tmp_path / "model.onnx", "onnxruntime")]


def test_a_saved_model_is_run_by_keras(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").touch()
    assert find_files([tmp_path], (), print) == [(tmp_path, "keras")]


def slower(measurement: Measurement, factor: float) -> Measurement:
    """The same measurement with longer times, by another factor each load."""
    loads = []
    for place, one in enumerate(measurement.loads):
        times = 1_000_000 * (factor + place / 1e4)
        loads.append(Load(rounds=(f"{times:.0f}",) * len(one.rounds)))
    return dataclasses.replace(measurement, loads=tuple(loads))


def test_a_baseline_is_found_by_name_or_by_file() -> None:
    then = a_record(a_measurement("model.tflite", file="/a/model.tflite"))
    now = a_measurement("other/model.tflite", file="/b/other/model.tflite")
    (verdict,) = job._against([now], then)
    assert (verdict.other, verdict.paired) == ("the baseline's model.tflite", False)
    assert verdict.word == "no difference"


@pytest.mark.usefixtures("described_here")
def test_a_file_that_the_baseline_lacks_is_an_error(files: Path) -> None:
    with pytest.raises(UsageError, match=r"--baseline has nothing .* any.tflite: it has a.tflite"):
        bench([files / "any.tflite"], BenchSettings(), baseline=a_record())


def compared(*factors: float) -> BenchRecord:
    found = [slower(a_measurement(f"{n}.tflite"), f) for n, f in zip("abc", factors, strict=False)]
    return dataclasses.replace(a_record(*found), verdicts=tuple(job._verdicts(found)))


def test_the_gate_looks_at_the_first_file() -> None:
    record = compared(1.0, 1.02, 1.10)
    judged = judge(record, 0.03, against_baseline=False)
    assert [(v.name, v.other) for v in judged.slower] == [("c.tflite", "a.tflite")]
    assert judge(record, 0.2, against_baseline=False).slower == ()
    assert judge(record, 0.0, against_baseline=True).slower == ()  # there was none


def test_the_batch_of_most_images_is_told_of_each_file() -> None:
    found = [
        a_measurement(f"batch {batch}", factor, batch=batch, file="a.tflite")
        for batch, factor in ((1, 1), (8, 4), (32, 40))
    ]
    assert best_batches(found) == [found[1]]
    assert best_batches(found[:1]) == []

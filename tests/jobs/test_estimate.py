"""What a user names becomes an estimate, and a user's own figures become parameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from keras_quant.bench import records
from keras_quant.bench.estimate.fusion import fuse
from keras_quant.bench.estimate.latency import Setting, describe_work, latencies_ms
from keras_quant.bench.estimate.parameters import Parameters, load_fitted
from keras_quant.bench.machine import Machine
from keras_quant.bench.records import BenchRecord, Load, Measurement, from_text
from keras_quant.bench.statistics import summarize
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.errors import ModelError, ResultsError, RunError, UsageError
from keras_quant.files import make_folder, write_bytes
from keras_quant.graph.ir import Graph
from keras_quant.graph.store import pack_graph
from keras_quant.jobs.estimate import EstimateSettings, estimate_latency
from keras_quant.targets.jetson import find_board, find_mode
from tests.bench.estimate.graphs import Builder, residual
from tests.bench.test_records import a_measurement, a_record
from tests.emit.random_graphs import GraphBuilder

SETTINGS = EstimateSettings(board="orin-nano")
# The user's board: launches take twice as long as on those that the parameters were fitted to.
KNOWN = load_fitted().values
TRUTH = dataclasses.replace(KNOWN, launch_us=2 * KNOWN.launch_us)


def a_graph(width: int) -> Graph:
    """A net that differs from others in its width."""
    return (
        Builder((34, 34, 8))
        .node("conv1", "conv2d", ("image",), (32, 32, width), kernel=(3, 3, 8, width))
        .node("conv2", "conv2d", ("conv1",), (30, 30, width), kernel=(3, 3, width, width))
        .node("mean", "mean", ("conv2",), (width,))
        .node("logits", "dense", ("mean",), (10,), kernel=(width, 10))
        .graph()
    )


def a_run(folder: Path, graph: Graph) -> Path:
    export = make_folder(folder / "export")
    write_bytes(export / "model.kqgraph", pack_graph(graph))
    return folder


def a_time(name: str, milliseconds: float, **fields: object) -> Measurement:
    text = f"{round(milliseconds * 1e6)} {round(milliseconds * 1e6)}"
    return a_measurement(
        name,
        runtime="tensorrt",
        threads=0,
        summary=summarize([[from_text(text)]]),
        loads=(Load(rounds=(text,)),),
        **fields,
    )


def of_board(*measurements: Measurement, **board: str) -> BenchRecord:
    machine = Machine(environment={"cpu": "board"}, board=board)
    return dataclasses.replace(a_record(), measurements=measurements, verdicts=(), machine=machine)


def results(folder: Path, widths: tuple[int, ...], truth: Parameters = TRUTH, **board: str) -> Path:
    """What kq bench --host leaves of nets of these widths: a record in each bundle."""
    mode = find_mode("orin-nano", board.get("power_mode"))
    for width in widths:
        run = a_run(folder / str(width), a_graph(width))
        setting = Setting(board=find_board("orin-nano"), mode=mode, precision="int8")
        work = describe_work([(fuse(a_graph(width)), setting)])
        exact = float(latencies_ms(work, truth)[0])
        record = of_board(
            a_time("net int8, latency", 3 * exact),
            a_time("net int8, throughput", exact, kind="enqueued"),
            **board,
        )
        bundle = run / "export" / "tensorrt"
        bundle.mkdir()
        records.save(record, bundle / records.FILE_NAME)
    return folder


def test_a_graph_its_tflite_file_and_a_bundle_are_estimated_alike(tmp_path: Path) -> None:
    net = GraphBuilder(np.random.default_rng(0), (8, 8, 4), power_of_two=True)
    net.add_linear("conv2d", (3, 3, 4, 8))
    export = a_run(tmp_path / "run", net.graph()) / "export"
    bundle = make_folder(export / "tensorrt")
    write_bytes(bundle / "manifest.json", b"{}")
    write_bytes(bundle / "model.onnx", emit_onnx_tensorrt(net.graph()))
    write_bytes(export / "model.tflite", b"")
    targets = [str(export / "model.kqgraph"), str(export / "model.tflite"), str(bundle)]
    record = estimate_latency(targets, SETTINGS)
    by_target = {
        target: [one for one in record.estimates if one.name == target] for target in targets
    }
    for found in by_target.values():
        assert [one.precision for one in found] == ["fp32", "fp16", "int8"]
        convolution = next(layer for layer in found[-1].layers if layer.arithmetic_us)
        assert convolution.precision == "int8"
        known = next(layer for layer in by_target[targets[0]][-1].layers if layer.arithmetic_us)
        assert convolution.arithmetic_us == known.arithmetic_us
    assert (record.board, record.power_mode, record.kind) == ("orin-nano", "MAXN_SUPER", "estimate")


def test_a_stage_is_not_taken_for_its_whole_net(tmp_path: Path) -> None:
    for name in ("stage1.tflite", "model.kqgraph", "stages.json"):
        (tmp_path / name).touch()
    with pytest.raises(RunError, match=r"stage1\.tflite: is one stage of a net"):
        estimate_latency([str(tmp_path / "stage1.tflite")], SETTINGS)


def test_a_tflite_file_without_its_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.tflite"
    path.write_bytes(b"")
    with pytest.raises(RunError, match="theirs.tflite: estimates of .tflite files are counted"):
        estimate_latency([str(path)], SETTINGS)
    with pytest.raises(ModelError, match="nowhere.onnx: no such file"):
        estimate_latency([str(tmp_path / "nowhere.onnx")], SETTINGS)
    for name in ("folder.onnx", "folder.tflite"):
        (tmp_path / name).mkdir()
        with pytest.raises(ModelError, match=f"{name}: is a folder"):
            estimate_latency([str(tmp_path / name)], SETTINGS)


def test_a_damaged_onnx_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(b"\x08\x09\x3a")
    with pytest.raises(ModelError, match="cut.onnx"):
        estimate_latency([str(path)], SETTINGS)


def test_precisions_that_the_board_has_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="int8: the GPU of nano .Maxwell.*has no int8.*give fp16"):
        estimate_latency(["x"], EstimateSettings(board="nano", precisions=("int8",)))
    with pytest.raises(UsageError, match="--precision 'fp61' is not known; close names: fp16"):
        estimate_latency(["x"], EstimateSettings(board="nano", precisions=("fp61",)))
    target = str(a_run(tmp_path, residual()) / "export" / "model.kqgraph")
    record = estimate_latency([target], EstimateSettings(board="nano", batches=(1, 8)))
    assert [(one.precision, one.batch) for one in record.estimates] == [
        *(("fp32", 1), ("fp16", 1), ("fp32", 8), ("fp16", 8))
    ]


def test_five_nets_of_ones_own_board_bring_estimates_to_it(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32, 64, 128))
    target = str(a_run(tmp_path / "new", a_graph(48)) / "export" / "model.kqgraph")
    said: list[str] = []
    settings = dataclasses.replace(SETTINGS, results=folder, precisions=("int8",))
    fitted = estimate_latency([target], settings, say=said.append)
    setting = Setting(
        board=find_board("orin-nano"), mode=find_mode("orin-nano", None), precision="int8"
    )
    truth = latencies_ms(describe_work([(fuse(a_graph(48)), setting)]), TRUTH)[0]
    plain = estimate_latency([target], dataclasses.replace(settings, results=None))
    off, before = (abs(one.estimates[0].estimate_ms / truth - 1) for one in (fitted, plain))
    assert off < 0.1 < before
    assert "fitted to 5 nets: each left out in turn, the median error is" in said[-1]
    assert fitted.fitted.origin == f"5 times of 5 nets in {folder}"
    assert fitted.fitted.spread.factor < plain.fitted.spread.factor


def test_power_modes_of_results_are_theirs(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32, 64, 128), KNOWN, power_mode="15W")
    target = str(tmp_path / "mine" / "8" / "export" / "model.kqgraph")
    record = estimate_latency([target], dataclasses.replace(SETTINGS, results=folder))
    # The figures fit the parameters as they are, in that mode.
    for name in ("launch_us", "memory_efficiency", "tensor_efficiency"):
        assert getattr(record.fitted.values, name) == pytest.approx(getattr(KNOWN, name), rel=0.05)


def test_too_few_nets_are_refused_and_counted_once(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32))
    (tmp_path / "mine" / "again").mkdir()
    results(tmp_path / "mine" / "again", (8, 16, 32))
    with pytest.raises(UsageError, match="3 nets with times of TensorRT; 5 different ones"):
        estimate_latency(["x"], dataclasses.replace(SETTINGS, results=folder))


def test_results_of_another_board_are_refused(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32, 64, 128), made_for="xavier-nx")
    with pytest.raises(UsageError, match="with files for xavier-nx, and --board is orin-nano"):
        estimate_latency(["x"], dataclasses.replace(SETTINGS, results=folder))


def test_results_are_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no bench.json; kq bench BUNDLE --host"):
        estimate_latency(["x"], dataclasses.replace(SETTINGS, results=tmp_path))
    folder = results(tmp_path / "mine", (8,))
    for graph in folder.rglob("model.kqgraph"):
        graph.unlink()
    with pytest.raises(ResultsError, match="neither model.kqgraph nor model.onnx lies beside"):
        estimate_latency(["x"], dataclasses.replace(SETTINGS, results=folder))


def test_what_was_not_run_by_tensorrt_is_left_out_and_said(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32, 64, 128))
    other = of_board(a_measurement("model.tflite"), a_time("net dla, latency", 1.0))
    records.save(other, folder / records.FILE_NAME)
    said: list[str] = []
    target = str(folder / "8" / "export" / "model.kqgraph")
    estimate_latency([target], dataclasses.replace(SETTINGS, results=folder), say=said.append)
    assert "model.tflite: left out, litert ran it" in said[0]
    assert "net dla, latency: left out, dla is not estimated" in said[1]


def test_an_unknown_power_mode_of_results_is_told(tmp_path: Path) -> None:
    folder = results(tmp_path / "mine", (8, 16, 32, 64, 128))
    for path in folder.rglob(records.FILE_NAME):
        record = records.load(path)
        machine = Machine(environment={}, board={"power_mode": "MY_OWN"})
        records.save(dataclasses.replace(record, machine=machine), path)
    said: list[str] = []
    target = str(folder / "8" / "export" / "model.kqgraph")
    estimate_latency([target], dataclasses.replace(SETTINGS, results=folder), say=said.append)
    assert "was measured in power mode MY_OWN, whose clocks are not known" in said[0]

"""The bundle: its scripts are run with a trtexec of our own, which answers with ONNX Runtime."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from keras_quant.emit.bundle import compare as bundle_compare
from keras_quant.emit.bundle.compare import read_outputs
from keras_quant.emit.bundle.dla import dla_scale
from keras_quant.emit.bundle.make import MAX_SAMPLES, Bundle, make_bundle, written_graph
from keras_quant.emit.bundle.texts import counted
from keras_quant.emit.onnx_tensorrt.emit import emit_onnx_tensorrt
from keras_quant.graph.ir import Graph, Weight
from keras_quant.graph.passes.realize import realize
from keras_quant.graph.pointwise import sigmoid
from keras_quant.graph.reference import run_reference
from keras_quant.qparams import dequantize, signed, unsigned
from keras_quant.targets.builder import build, builder_is_installed, built_layers
from keras_quant.targets.tensorrt import TensorRTOptions
from tests.emit.lookup_graphs import graph_of, table_of
from tests.emit.random_graphs import GraphBuilder

FLOAT32_ROUNDING = 1e-5
NEAR_TIES = 1e-3  # codes of up to 8 bits whose sums are so near a tie that float32 moves them

# What trtexec --exportOutput writes, see exportJSONOutput in NVIDIA's
# samples/common/sampleReporting.cpp: "dimensions" joined by x, C++'s default of 6 digits.
EXPORTED = """[
  { "name" : "logits"
  , "dimensions" : "1x3"
  , "values" : [ 1.5, -0.000123457, 2e-05 ]
  }
, { "name" : "features"
  , "dimensions" : "1x1x2x2"
  , "values" : [ nan, -nan, inf, -inf ]
  }
]
"""

# Takes the options that the scripts use, and answers what lies in answers/.
TRTEXEC = """#!/bin/sh
for option in "$@"; do
    case "$option" in
        --saveEngine=*) touch "${option#*=}" ;;
        --loadEngine=*) [ -e "${option#*=}" ] || exit 1 ;;
        --loadInputs=*) [ -e "${option#*:}" ] || exit 1 ;;
        --exportOutput=*) cp "answers/${option##*/}" "${option#*=}" ;;
    esac
done
"""

OPTIONS = {
    "int8": TensorRTOptions(version="8.5"),
    "fp16": TensorRTOptions(board="nano"),
    "dla": TensorRTOptions(board="orin-nx", dla=True),
}


@pytest.fixture
def realized(graph: Graph) -> Graph:
    return realize(graph).graph


def bundle_of(
    graph: Graph, folder: Path, *, options: TensorRTOptions | None = None, **settings: Any
) -> Bundle:
    """Emits a graph and writes its bundle, as an export does."""
    options = options or TensorRTOptions()
    written = written_graph(graph, {}, options=options)
    model = emit_onnx_tensorrt(written, options=options)
    bundle = make_bundle(graph, model=model, options=options, **settings)
    for name, content in bundle.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return bundle


def images(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"image": (rng.integers(0, 256, (count, 6, 6, 2)) / 255).astype(np.float32)}


def exported(logits: np.ndarray) -> str:
    """An answer as trtexec writes it."""
    values = ", ".join(f"{value:g}" for value in logits)
    return f"""[
  {{ "name" : "logits"
  , "dimensions" : "1x{len(logits)}"
  , "values" : [ {values} ]
  }}
]
"""


def run_scripts(folder: Path, answers: np.ndarray) -> subprocess.CompletedProcess[str]:
    """build.sh, bench.sh and compare.py, as a user runs them, with an engine that answers so."""
    trtexec = folder / "trtexec"
    trtexec.write_text(TRTEXEC)
    trtexec.chmod(0o755)
    (folder / "answers").mkdir()
    for index, logits in enumerate(answers):
        (folder / "answers" / f"{index}.json").write_text(exported(logits))
    environment = {**os.environ, "TRTEXEC": str(trtexec)}
    for script in ("build.sh", "bench.sh"):
        subprocess.run(["sh", folder / script], env=environment, check=True, capture_output=True)
    return subprocess.run(
        [sys.executable, folder / "compare.py"], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_the_file_answers_what_is_expected(tmp_path: Path, realized: Graph, precision: str) -> None:
    bundle = bundle_of(realized, tmp_path, samples=images(2), options=OPTIONS[precision])
    assert bundle.plan.precision == precision
    session = ort.InferenceSession(tmp_path / "model.onnx")
    samples, expected = (
        np.load(tmp_path / "samples" / name) for name in ("image.npy", "logits.expected.npy")
    )
    (logits,) = session.run(None, {"image": samples})
    np.testing.assert_allclose(logits, expected, rtol=FLOAT32_ROUNDING)
    raw = np.fromfile(tmp_path / "samples" / "image.1.bin", np.float32)
    np.testing.assert_array_equal(raw, samples[1].ravel())


def test_an_engine_that_answers_as_the_model_passes(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(2))
    compared = run_scripts(tmp_path, np.load(tmp_path / "samples" / "logits.expected.npy"))
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "same first place     2 of 2" in compared.stdout


def probed(folder: Path, *, change: str = "") -> None:
    """What prove.sh leaves: probe.onnx's answers, as trtexec writes them.

    Args:
        change: a tensor of which one code becomes the next.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(folder / "probe.onnx", options)
    names = [output.name for output in session.get_outputs()]
    (folder / "proof").mkdir(exist_ok=True)
    for index in range(2):
        raw = np.fromfile(folder / "samples" / f"image.{index}.bin", np.float32)
        found = dict(zip(names, session.run(None, {"image": raw.reshape(1, 6, 6, 2)}), strict=True))
        if change and index == 1:
            found[change].ravel()[0] += 1
        items = [
            {
                "name": name,
                "dimensions": "x".join(map(str, values.shape)),
                "values": values.ravel().tolist(),
            }
            for name, values in found.items()
        ]
        (folder / "proof" / f"{index}.json").write_text(json.dumps(items))


def proven(folder: Path) -> subprocess.CompletedProcess[str]:
    """compare.py of a bundle whose engine answers as the model does."""
    logits = np.load(folder / "samples" / "logits.expected.npy")
    (folder / "outputs").mkdir(exist_ok=True)
    for index, values in enumerate(logits):
        (folder / "outputs" / f"{index}.json").write_text(exported(values))
    return subprocess.run(
        [sys.executable, folder / "compare.py"], capture_output=True, text=True, check=False
    )


def test_codes_of_all_layers_are_proven(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(3))
    assert "not compared: run prove.sh" in proven(tmp_path).stdout
    probed(tmp_path)
    done = proven(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = json.loads((tmp_path / "manifest.json").read_text())["proof"]["layers"]
    quantized = [node for node in realized.nodes if realized.tensors[node.output].qparams]
    assert [layer["layer"] for layer in layers] == [node.name for node in quantized]
    size = 2 * sum(int(np.prod(realized.tensors[node.output].shape)) for node in quantized)
    assert f"compared             {size:,} of {len(layers)} layers" in done.stdout
    assert "EXACT: every code is the model's" in done.stdout


@pytest.mark.parametrize("beyond", ["130", "inf", "nan", "126.5"])
def test_what_is_no_code_is_no_codes_equal(
    tmp_path: Path, beyond: str, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = np.full((1, 4), 127, np.int8)
    np.savez(tmp_path / "codes.npz", codes0=codes)
    digest = hashlib.sha256(codes.tobytes()).hexdigest()
    layer = {"tensor": "t", "layer": "conv", "codes": "codes0", "sha256": digest}
    proof = {"samples": 1, "codes": "codes.npz", "tolerance": 0.0, "layers": [layer]}
    (tmp_path / "proof").mkdir()
    for value, passes in (("127", True), (beyond, False)):
        (tmp_path / "proof" / "0.json").write_text(
            f'[{{"name": "t", "dimensions": "1x4", "values": [127, 127, 127, {value}]}}]'
        )
        assert bundle_compare.report_codes(str(tmp_path), proof) is passes
    assert "conv (1 of 4 codes" in capsys.readouterr().out


def test_the_first_layer_that_differs_is_named(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(3))
    proof = json.loads((tmp_path / "manifest.json").read_text())["proof"]
    last, size = proof["layers"][-1], np.load(tmp_path / proof["codes"])["codes0"].size
    probed(tmp_path, change=last["tensor"])
    done = proven(tmp_path)
    codes = np.load(tmp_path / proof["codes"])[last["codes"]].size
    assert f"first layer          {last['layer']} (1 of {codes:,} codes" in done.stdout
    assert (done.returncode, "THE CODES ARE OTHERS" in done.stdout) in ((1, True), (0, False))
    assert "EXACT: every" not in done.stdout
    probed(tmp_path)
    (tmp_path / "proof" / "1.json").write_text("[]")
    assert "lacks" in proven(tmp_path).stderr
    assert size > 0


@pytest.mark.skipif(not builder_is_installed(), reason="extra tensorrt is missing")
def test_nvidias_builder_runs_the_probe_in_int8(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(1))
    report = build(onnx.load(tmp_path / "probe.onnx"))
    assert report.rejected == ()
    alone = build(onnx.load(tmp_path / "model.onnx"))
    assert [layer.precision for layer in report.layers] == [
        layer.precision for layer in alone.layers
    ]


@pytest.mark.parametrize("precision", ["fp16", "dla"])
def test_a_file_of_floats_has_no_codes_to_prove(
    tmp_path: Path, realized: Graph, precision: str
) -> None:
    bundle = bundle_of(realized, tmp_path, samples=images(1), options=OPTIONS[precision])
    assert not {"prove.sh", "probe.onnx"} & bundle.files.keys()
    assert json.loads((tmp_path / "manifest.json").read_text())["proof"] is None


@pytest.mark.parametrize("factor", [1.1, np.nan])
def test_an_engine_that_answers_otherwise_fails(
    tmp_path: Path, realized: Graph, factor: float
) -> None:
    bundle_of(realized, tmp_path, samples=images(2))
    answers = np.load(tmp_path / "samples" / "logits.expected.npy") * factor
    compared = run_scripts(tmp_path, answers)
    assert compared.returncode == 1
    assert "THE ENGINE ANSWERS OTHERWISE" in compared.stdout


def test_compare_says_what_is_missing(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path / "out", samples=images(1))
    script = [sys.executable, tmp_path / "out" / "compare.py"]
    compared = subprocess.run(script, capture_output=True, text=True, check=False)
    assert compared.returncode == 1
    assert "0.json is missing: run build.sh first" in compared.stderr


def test_compare_reads_what_trtexec_writes() -> None:
    outputs = read_outputs(EXPORTED)
    np.testing.assert_allclose(outputs["logits"], [1.5, -0.000123457, 2e-05])
    features = outputs["features"]
    assert features.shape == (1, 2, 2)
    np.testing.assert_array_equal(features.ravel(), [np.nan, np.nan, np.inf, -np.inf])


def test_compare_runs_on_python_3_6() -> None:
    source = Path(bundle_compare.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    imported = [
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    ]
    assert sorted(imported) == ["hashlib", "json", "numpy", "os", "re", "sys"]
    assert {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} == {
        "typing"
    }


def test_manifest_tells_names_shapes_versions_and_hashes(tmp_path: Path, realized: Graph) -> None:
    bundle = bundle_of(
        realized,
        tmp_path,
        samples=images(MAX_SAMPLES + 1),
        options=OPTIONS["int8"],
        labels=("a", "b", "c"),
        scheme="w4a4",
    )
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["scheme"], manifest["tensorrt"], manifest["opset"]) == ("w4a4", "8.5", 13)
    assert manifest["inputs"][0]["shape"] == [1, 6, 6, 2]
    assert manifest["versions"].keys() == {"keras_quant", "numpy", "onnx"}
    assert {*manifest["sha256"], "manifest.json"} == set(bundle.files)
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert (tmp_path / "labels.txt").read_text() == "a\nb\nc\n"
    expected = np.load(tmp_path / manifest["outputs"][0]["expected"])
    samples = np.load(tmp_path / manifest["inputs"][0]["samples"])
    assert len(samples) == len(expected) == MAX_SAMPLES
    np.testing.assert_array_equal(run_reference(realized, {"image": samples})["logits"], expected)


def test_readme_says_why_there_is_no_int8(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(1), options=OPTIONS["fp16"])
    readme = (tmp_path / "README.md").read_text()
    assert "has no int8 kernels" in readme
    assert len(readme.splitlines()) < 60
    assert "--fp16" in (tmp_path / "build.sh").read_text()


def test_readme_says_which_tensors_are_shifted(tmp_path: Path, realized: Graph) -> None:
    bundle = bundle_of(realized, tmp_path, samples=images(1))
    assert bundle.shifted == ("pixels",)
    readme = (tmp_path / "README.md").read_text()
    assert "the codes of 1 tensor are stored less a shift" in readme


def test_calibration_cache_tells_every_scale(tmp_path: Path, realized: Graph) -> None:
    bundle = bundle_of(realized, tmp_path, samples=images(1), options=OPTIONS["dla"])
    header, *lines = (tmp_path / "calibration.cache").read_text().splitlines()
    assert header == "TRT-100300-EntropyCalibration2"
    told = {
        name: struct.unpack(">f", bytes.fromhex(bits))[0]
        for name, bits in (line.split(": ") for line in lines)
    }
    assert told["image"] == told["image/channels_first"] == np.float32(1 / 127)  # 255 / 127 / 255
    assert told["features/computed/Conv"] == told["features/clip"] == 0.25
    assert (told["sums/sum"], told["means/clip"]) == (0.5, 0.25)
    assert bundle.fallbacks == ("head: its output is float and has no scale",)


@pytest.mark.parametrize(
    ("qparams", "scale"),
    [
        (unsigned(7, 0.5), 0.5),
        (signed(8, 0.5, narrow_range=False), 0.5),
        (unsigned(8, 0.5), 0.5 * 255 / 127),
        (unsigned(6, 2.0), 2.0),
        (unsigned(6, 4.0), 4.0 * 63 / 127),  # up to 252: more than a DLA clips at
        (signed(4, 0.5, narrow_range=False), 0.5 * 8 / 127),
        (signed(4, 0.5, narrow_range=True), 0.5 * 7 / 127),
    ],
)
def test_a_dla_keeps_the_codes_that_fit_and_ends_where_the_others_do(qparams, scale: float) -> None:
    assert dla_scale(qparams) == scale


def test_a_dla_is_expected_to_answer_as_the_model_does(tmp_path: Path, realized: Graph) -> None:
    samples = images(8)
    bundle_of(realized, tmp_path, samples=samples, options=OPTIONS["dla"])
    expected = np.load(tmp_path / "samples" / "logits.expected.npy")
    np.testing.assert_array_equal(run_reference(realized, samples)["logits"], expected)
    session = ort.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {"image": samples["image"]})  # without the DLA's rounding
    assert 0 < np.abs(logits - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("precision", "bits", "tolerance"),
    [("int8", 4, 2.0**-7), ("fp16", 4, 0.25), ("fp16", 5, 2.0**-7), ("dla", 4, 0.375)],
)
def test_rounding_to_few_codes_allows_larger_differences(
    tmp_path: Path, realized: Graph, precision: str, bits: int, tolerance: float
) -> None:
    tensors = {
        name: replace(tensor, qparams=replace(tensor.qparams, bits=max(bits, tensor.qparams.bits)))
        if tensor.qparams
        else tensor
        for name, tensor in realized.tensors.items()
    }
    graph = replace(realized, tensors=tensors)
    bundle_of(graph, tmp_path, samples=images(1), options=OPTIONS[precision])
    assert json.loads((tmp_path / "manifest.json").read_text())["tolerance"] == tolerance
    readme = (tmp_path / "README.md").read_text()
    assert f"{Fraction(tolerance)} of the largest answer" in readme
    assert ("rounded to their few codes" in readme) == (tolerance == 0.25)


@pytest.mark.parametrize(("lead", "agrees"), [(0.5, True), (3.0, False)])
def test_another_first_place_passes_where_the_model_nearly_gives_it(
    lead: float, agrees: bool
) -> None:
    expected = np.array([[8.0, 8.0 - lead, 0.0]], np.float32)
    given = np.array([[7.0, 7.5, 0.0]], np.float32)
    assert bundle_compare.report("logits", expected, given, 0.25) == agrees


def test_one_thing_is_not_told_in_the_plural(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(1))
    for name in ("README.md", "build.sh"):
        text = (tmp_path / name).read_text()
        assert "1 sample" in text and "1 samples" not in text
    assert (counted(0, "sample"), counted(2, "sample")) == ("0 samples", "2 samples")


def test_a_script_shows_the_log_of_a_trtexec_that_fails(tmp_path: Path, realized: Graph) -> None:
    bundle_of(realized, tmp_path, samples=images(1))
    (tmp_path / "model.engine").touch()
    trtexec = tmp_path / "trtexec"
    trtexec.write_text("#!/bin/sh\necho no such GPU\nexit 3\n")
    trtexec.chmod(0o755)
    for script, path, said in (
        ("build.sh", trtexec, "no such GPU\ntrtexec failed: build.log"),
        ("bench.sh", trtexec, "no such GPU\ntrtexec failed: results.partial/throughput.log"),
        ("build.sh", tmp_path / "nowhere", "set TRTEXEC to where it is"),
    ):
        environment = {**os.environ, "TRTEXEC": str(path)}
        done = subprocess.run(
            ["sh", tmp_path / script], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert said in done.stdout


@pytest.mark.parametrize("board", ["nano", "orin-nx"])
def test_tables_and_signed_ranges_fit_files_of_floats(tmp_path: Path, board: str) -> None:
    source, target = signed(8, 2.0**-5, narrow_range=False), signed(4, 0.5, narrow_range=True)
    rows = np.random.default_rng(0).integers(-7, 8, (2, 256), dtype=np.int32)
    shape = (16, 16, 2)
    samples = {"image": np.random.default_rng(1).uniform(-4, 4, (2, *shape)).astype(np.float32)}
    options = TensorRTOptions(board=board, dla=board != "nano")
    for name, table in (("any", rows), ("sigmoid", table_of(sigmoid, source, target))):
        graph = graph_of(table, source, target, shape)
        bundle = bundle_of(graph, tmp_path / name, samples=samples, options=options)
        session = ort.InferenceSession(tmp_path / name / "model.onnx")
        (found,) = session.run(None, samples)
        wanted = dequantize(run_reference(graph, samples)["out"], target)
        close = np.abs(found - wanted)
        assert close.max() <= (0.51 * target.scale if name == "sigmoid" else 0)
        on_gpu = "lookup: a table of codes"
        assert (on_gpu in bundle.fallbacks) == (options.dla and name == "any")


@pytest.mark.parametrize("seed", range(4))
def test_rounded_floats_have_the_codes_of_the_model(seed: int) -> None:
    builder = GraphBuilder(np.random.default_rng(seed), (5, 4, 6), power_of_two=False)
    for op in ("conv2d", "depthwise_conv2d", "max_pool", "conv2d_transpose", "conv2d"):
        builder.add_random(op)
    builder.add_linear("conv2d", (1, 1, builder.shape()[2], 3), qparams=unsigned(2, 0.5))
    graph, samples = builder.graph(), builder.images(4)
    floats = written_graph(graph, samples, options=OPTIONS["fp16"])
    names = [node.output for node in graph.nodes if node.weight]
    wanted, found = (run_reference(g, samples, keep=names) for g in (graph, floats))
    different = sum(np.count_nonzero(wanted[name] != found[name]) for name in names)
    assert different <= NEAR_TIES * sum(array.size for array in wanted.values())


@pytest.mark.parametrize("seed", range(4))
def test_rounded_floats_keep_away_from_ties(seed: int) -> None:
    builder = GraphBuilder(np.random.default_rng(seed), (8, 8, 4), power_of_two=False)
    kernel = np.random.default_rng(1).integers(-3, 4, (1, 1, 4, 3)).astype(np.int8)
    half = Weight(values=kernel, scale=np.full(3, 0.5, np.float32), bits=3)
    scale = builder.qparams().scale  # so that a sum of 1 is half a step, and goes to 0
    builder.add_node("conv2d", qparams=unsigned(1, scale), weight=half)
    graph, samples = builder.graph(), builder.images(4)
    floats = written_graph(graph, samples, options=OPTIONS["fp16"])
    wanted, found = (run_reference(g, samples, keep=[builder.last]) for g in (graph, floats))
    np.testing.assert_array_equal(found[builder.last], wanted[builder.last])


FLAGS = [
    (TensorRTOptions(version="8.2"), "--int8 --noTF32"),
    (TensorRTOptions(version="8.5"), "--int8 --noTF32"),
    (TensorRTOptions(version="8.6"), "--int8 --noTF32"),
    (TensorRTOptions(version="10.3"), "--stronglyTyped --noTF32"),
    (TensorRTOptions(version="10.13"), "--stronglyTyped --noTF32"),
    (TensorRTOptions(version="10.16"), "--stronglyTyped --noTF32"),
    (TensorRTOptions(version="11"), "--noTF32"),
    (TensorRTOptions(version="11.4"), "--noTF32"),
    (TensorRTOptions(version="8.5", half=True), "--fp16"),
    (TensorRTOptions(version="10.16", half=True), "--fp16"),
    (TensorRTOptions(version="11", half=True), ""),
    (
        TensorRTOptions(board="agx-orin", dla=True),
        "--int8 --fp16 --calib=calibration.cache --useDLACore=0 --allowGPUFallback",
    ),
    (
        TensorRTOptions(board="agx-orin", version="11.4", dla=True),
        "--useDLACore=0 --allowGPUFallback",
    ),
]
REMOVED_IN_11 = {"--int8", "--fp16", "--best", "--calib", "--stronglyTyped"}


@pytest.mark.parametrize(("options", "flags"), FLAGS)
def test_trtexec_gets_the_flags_that_its_version_knows(
    tmp_path: Path, realized: Graph, options: TensorRTOptions, flags: str
) -> None:
    bundle = bundle_of(realized, tmp_path, samples=images(1), options=options)
    assert json.loads(bundle.files["manifest.json"])["build_flags"] == flags.split()
    scripts = [bundle.files[name].decode() for name in bundle.files if name.endswith(".sh")]
    named = {word.partition("=")[0] for script in scripts for word in script.split()}
    if bundle.plan.version.startswith("11"):
        assert not named & REMOVED_IN_11
    typed = bundle.plan.typed_half
    assert ("model.fp16.onnx" in bundle.files) == typed
    assert (f"--onnx={'model.fp16.onnx' if typed else 'model.onnx'}" in scripts[0].split()) is True
    writes_layers = "--exportLayerInfo" in bundle.files["bench.sh"].decode()
    assert writes_layers == (bundle.plan.version != "8.2")
    has_cache = "--calib=calibration.cache" in flags
    assert ("calibration.cache" in bundle.files) == has_cache


@pytest.mark.parametrize("dla", [False, True])
def test_a_file_typed_fp16_answers_as_its_floats(
    tmp_path: Path, realized: Graph, dla: bool
) -> None:
    options = TensorRTOptions(board="agx-orin", version="11.4", dla=dla, half=not dla)
    bundle = bundle_of(realized, tmp_path, samples=images(8), options=options)
    model = onnx.load(tmp_path / "model.fp16.onnx")
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds and onnx.TensorProto.FLOAT not in kinds
    samples, expected = (
        np.load(tmp_path / "samples" / name) for name in ("image.npy", "logits.expected.npy")
    )
    (logits,) = ort.InferenceSession(tmp_path / "model.fp16.onnx").run(None, {"image": samples})
    assert (logits.dtype, bundle.plan.precision) == (np.float32, "dla" if dla else "fp16")
    tolerance = json.loads((tmp_path / "manifest.json").read_text())["tolerance"]
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()
    readme = (tmp_path / "README.md").read_text()
    assert "model.fp16.onnx" in readme
    assert ("reads no calibration cache, so that it computes in fp16" in readme) == dla


@pytest.mark.skipif(not builder_is_installed(), reason="extra tensorrt is missing")
def test_nvidias_builder_computes_a_typed_file_in_fp16(tmp_path: Path, realized: Graph) -> None:
    options = TensorRTOptions(version="11", half=True)
    bundle_of(realized, tmp_path, samples=images(1), options=options)
    layers = built_layers(onnx.load(tmp_path / "model.fp16.onnx"))
    products = [one for one in layers if one.kind in ("correlation", "gemm")]
    assert products
    assert {kind for one in products for kind in one.reads} == {"Half"}

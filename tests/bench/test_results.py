"""bench.sh on a board that only pretends, and the record that becomes of what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from keras_quant.bench import records
from keras_quant.bench.results import read_results
from keras_quant.cli.main import main
from keras_quant.emit.bundle.texts import bench_script
from keras_quant.errors import ResultsError
from keras_quant.targets.tensorrt import TensorRTOptions, plan
from tests.bench.boards import (
    A_PROFILE,
    POWER_MODE,
    RELEASE,
    SOME_LAYERS,
    TEGRASTATS,
    a_log,
    some_times,
)

MANIFEST = {
    "model": "net",
    "precision": "int8",
    "tensorrt": "8.5",
    "board": "orin-nano",
    "inputs": [{"name": "image", "shape": [1, 8, 8, 1], "dtype": "float32"}],
    "sha256": {"model.onnx": "abc"},
}
# Writes what it is asked to, as recordings/ has it, and prints the log.
TRTEXEC = """#!/bin/sh
here=$(dirname "$0")
kind=profile
case "$*" in
    *--noDataTransfers*)
        kind=throughput
        # A run takes seconds; until then tegrastats has written something.
        stats=results.partial/tegrastats.log
        if [ -e $stats ]; then until [ -s $stats ]; do sleep 0.01; done; fi
        ;;
    *--exposeDMA*) kind=latency ;;
esac
echo "$*" >> "$here/calls"
for option in "$@"; do
    case $option in
        --exportTimes=*) cp "$here/$kind.json" "${option#*=}" ;;
        --exportProfile=*) cp "$here/profile.json" "${option#*=}" ;;
        --exportLayerInfo=*) cp "$here/layers.json" "${option#*=}" ;;
    esac
done
cat "$here/$kind.log"
"""


def make_board(folder: Path) -> Path:
    """A folder of programs as a board has them: trtexec, tegrastats, nvpmodel."""
    folder.mkdir(parents=True)
    for name, content in {
        "throughput.log": a_log(qps=500, mean=2.0, queries=3),
        "throughput.json": some_times(99.0, 2.0, 2.2, 2.4),  # the first is of the warm-up
        "latency.log": a_log(qps=400, mean=2.5, queries=2),
        "latency.json": some_times(2.5, 2.7),
        "profile.log": a_log(),
        "profile.json": A_PROFILE,
        "layers.json": SOME_LAYERS,
        "stats": TEGRASTATS,
        "mode": POWER_MODE,
    }.items():
        (folder / name).write_text(content)
    scripts = {
        "trtexec": TRTEXEC,
        "nvpmodel": f"#!/bin/sh\ncat {folder}/mode\n",
        "tegrastats": f"#!/bin/sh\ncat {folder}/stats\nexec sleep 600\n",
    }
    for name, script in scripts.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return folder


def make_bundle(folder: Path) -> Path:
    folder.mkdir()
    (folder / "bench.sh").write_text(
        bench_script(plan(TensorRTOptions(version="8.5")), shapes={"image": (8, 8, 1)})
    )
    (folder / "manifest.json").write_text(json.dumps(MANIFEST))
    (folder / "model.onnx").write_bytes(b"12345")
    (folder / "model.engine").touch()
    return folder


def bench(bundle: Path, board: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TRTEXEC": str(board / "trtexec"),
        "PATH": f"{board}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["sh", bundle / "bench.sh"], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which bench.sh has run."""
    folder = tmp_path_factory.mktemp("board")
    bundle, board = make_bundle(folder / "bundle"), make_board(folder / "bin")
    done = bench(bundle, board)
    assert done.returncode == 0, done.stdout + done.stderr
    (bundle / "results" / "release.txt").write_text(RELEASE)  # this machine has none
    (bundle / "results" / "model.txt").write_text("NVIDIA Jetson Orin Nano\n")
    return bundle


def test_both_modes_and_the_layers_are_measured(measured: Path) -> None:
    calls = (measured.parent / "bin" / "calls").read_text().splitlines()
    assert len(calls) == 3
    assert "--noDataTransfers" in calls[0] and "--exposeDMA" in calls[1]
    assert "--exportLayerInfo" in calls[2]
    assert not (measured / "results.partial").exists()


def test_the_record_is_that_of_the_board(measured: Path) -> None:
    record = read_results(measured, command=("kq",), created="now")
    throughput, latency = record.measurements
    assert (throughput.kind, latency.kind) == ("enqueued", "latency")
    assert (throughput.images_per_s, latency.images_per_s) == (500, 400)
    assert throughput.summary.p50_ms == pytest.approx(0.9 * 2.2)  # of computing
    assert (throughput.summary.samples, latency.summary.samples) == (3, 2)
    assert latency.summary.p50_ms == pytest.approx(2.6)
    assert (throughput.size_bytes, throughput.sha256) == (5, "abc")
    assert [one.types for one in throughput.operators] == ["int8 -> fp32", ""]
    assert record.machine.board == {
        "model": "NVIDIA Jetson Orin Nano",
        "power_mode": "25W",
        "l4t": "36.4.7",
        "jetpack": "6",
        "tensorrt": "8.5.2",
        "made_for": "orin-nano",
        "VDD_IN_mw": "8500",
    }
    assert throughput.energy_mj == 8500 / 500  # while the GPU was busy
    assert latency.energy_mj is None
    assert record.noise == ()


def test_another_version_is_told(measured: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for file in (measured / "results").iterdir():
        (results / file.name).write_bytes(file.read_bytes())
    manifest = json.dumps({**MANIFEST, "tensorrt": "10.3"})
    (results / "manifest.json").write_text(manifest)
    record = read_results(results, command=(), created="")
    assert record.noise == ("the file was written for TensorRT 10.3; 8.5.2 ran it",)
    assert record.measurements[0].size_bytes is None


def test_another_board_is_told(measured: Path, tmp_path: Path) -> None:
    for file in (measured / "results").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.txt").write_text("NVIDIA Jetson Xavier NX\n")
    record = read_results(tmp_path, command=(), created="")
    told = "the bundle was made for orin-nano; a NVIDIA Jetson Xavier NX ran it"
    assert record.noise == (told,)


def test_the_command_writes_the_record(measured: Path, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    result = CliRunner().invoke(main, ["import-results", str(measured), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert "model NVIDIA Jetson Orin Nano, power_mode 25W" in result.stdout
    assert "reformat: values change their layout or type" in result.stdout
    assert [one.name for one in records.load(output).measurements] == [
        "net int8, throughput",
        "net int8, latency",
    ]


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing file": (lambda f: (f / "latency.log").unlink(), "lacks latency.log. Give a bundle"),
    "a failed run": (
        lambda f: (f / "latency.log").write_text(a_log(verdict="FAILED")),
        "latency.log: trtexec failed",
    ),
    "another manifest": (
        lambda f: (f / "manifest.json").write_text('{"inputs": []}'),
        "manifest.json: not the manifest of a bundle",
    ),
    "times of another run": (
        lambda f: (f / "latency.json").write_text(some_times(1.0)),
        "holds 1 calls, and the log tells of 2",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_results_are_refused_and_nothing_is_recorded(
    measured: Path, tmp_path: Path, name: str
) -> None:
    break_it, told = BROKEN[name]
    for file in (measured / "results").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    break_it(tmp_path)
    result = CliRunner().invoke(main, ["import-results", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in result.stderr
    assert not (tmp_path / "bench.json").exists()


def test_a_run_that_failed_leaves_no_results(tmp_path: Path) -> None:
    bundle, board = make_bundle(tmp_path / "bundle"), make_board(tmp_path / "bin")
    (board / "trtexec").write_text("#!/bin/sh\necho no such GPU\nexit 1\n")
    done = bench(bundle, board)
    assert done.returncode == 1
    assert "trtexec failed: results.partial/throughput.log" in done.stdout
    assert not (bundle / "results").exists()
    with pytest.raises(ResultsError, match="bench.sh was stopped before its end. Run it again"):
        read_results(bundle, command=(), created="")
    with pytest.raises(ResultsError, match="no such folder; give a bundle"):
        read_results(tmp_path / "gone", command=(), created="")

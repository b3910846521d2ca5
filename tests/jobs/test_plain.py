"""Exports of plain kinds: files, what they are held to, and what parity.json says of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.errors import EmitError, ParityError, RunError, UsageError
from keras_quant.jobs import plain
from keras_quant.jobs.plain import PlainExport, export_plain
from keras_quant.runs import locked
from keras_quant.runs.progress import Progress

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow")
    from keras_quant.tf import keras

    folder = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8), np.arange(60) % 4
    np.savez(folder / "data.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(16, 3, padding="same", input_shape=(8, 8, 3), name="conv1"),
            layers.BatchNormalization(name="norm1"),
            layers.ReLU(6.0, name="relu1"),
            layers.DepthwiseConv2D(3, activation="relu", name="conv2"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(4, name="logits"),
        ],
        name="net",
    )
    model.save(folder / "net.keras")
    return folder


def export(
    folder: Path, kind: str, out: Path, *, targets: tuple[str, ...] = ("tflite",), **more: Any
) -> tuple[PlainExport, ...]:
    settings = {"images": 0, "overwrite": False, "trust": False, **more}
    return export_plain(
        folder / "net.keras",
        kind,
        targets,
        dataset=str(folder / "data.npz"),
        out=out,
        progress=Progress(quiet=True),
        **settings,
    )


@pytest.mark.parametrize(
    ("kind", "targets", "changed"),
    [
        ("fp16", ("tflite", "onnx"), 3),
        ("dynamic", ("tflite", "onnx"), 2),
        ("w8a16", ("tflite",), 3),
    ],
)
def test_files_are_written_and_held_to_the_kinds_tolerance(
    folder: Path, tmp_path: Path, kind: str, targets: tuple[str, ...], changed: int
) -> None:
    done = export(folder, kind, tmp_path, targets=targets)
    records = json.loads((tmp_path / "parity.json").read_text())
    assert list(records) == [one.format for one in done] == list(targets)
    for one in done:
        assert one.path.stat().st_size == one.size_bytes
        assert 0 < one.rms <= one.tolerance == plain.RMS_TOLERANCES[kind]
        assert (one.changed, one.images) == (changed, 20)
        assert len(one.kept) == 3 - changed
        record = records[one.format]
        assert record["kind"] == kind and record["passed"]
        assert "no codes are compared" in record["proof"]
        assert record["scores"] and record["keras_scores"]


def test_a_file_that_is_too_far_off_gets_another_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(folder, "dynamic", tmp_path)
    monkeypatch.setitem(plain.RMS_TOLERANCES, "dynamic", 1e-9)
    with pytest.raises(ParityError, match=r"failed-parity\.tflite: its answers are .* tolerance"):
        export(folder, "dynamic", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".tflite") == [
        "model.failed-parity.tflite"
    ]
    assert json.loads((tmp_path / "parity.json").read_text())["tflite"]["passed"] is False


def test_what_no_target_has_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--kind 'fp8' is not known; kinds are integer, fp16"):
        export(folder, "fp8", tmp_path)
    with pytest.raises(UsageError, match="not for tensorrt"):
        export(folder, "fp16", tmp_path, targets=("tensorrt",))
    with pytest.raises(EmitError, match="onnx cannot be written as w8a16"):
        export(folder, "w8a16", tmp_path, targets=("onnx",))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_somebody_else_is_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(b"theirs")
    with pytest.raises(RunError, match="does not say that it is ours"):
        export(folder, "fp16", tmp_path)
    assert (tmp_path / "model.tflite").read_bytes() == b"theirs"
    export(folder, "fp16", tmp_path, overwrite=True)


def test_a_run_that_another_process_works_on_is_not_exported(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "net.keras", tmp_path / "model.keras")
    with locked(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()} works on it"):
        export_plain(
            tmp_path,
            "fp16",
            ("tflite",),
            dataset=str(folder / "data.npz"),
            out=None,
            images=0,
            overwrite=False,
            trust=False,
            progress=Progress(quiet=True),
        )


def test_a_run_is_held_until_its_files_are_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(folder / "net.keras", tmp_path / "model.keras")
    write, refused = plain._write, []

    def watched(*arguments: Any) -> Any:
        with pytest.raises(RunError, match="works on it"), locked(tmp_path):
            pass
        refused.append(True)
        return write(*arguments)

    monkeypatch.setattr(plain, "_write", watched)
    export_plain(
        tmp_path,
        "fp16",
        ("tflite",),
        dataset=str(folder / "data.npz"),
        out=None,
        images=5,
        overwrite=False,
        trust=False,
        progress=Progress(quiet=True),
    )
    assert refused and (tmp_path / "export-fp16" / "model.tflite").is_file()


@pytest.mark.slow
def test_a_quantized_model_gives_its_float_weights(folder: Path, tmp_path: Path) -> None:
    import keras_quant as kq
    from keras_quant.model.files import save_model

    data = kq.load_dataset(str(folder / "data.npz"))
    model = kq.load_model(folder / "net.keras")
    scheme = kq.scheme_from_bits("w4a4")
    statistics = kq.collect(kq.plan(model, scheme), model, data.reals(data.train.x))
    save_model(kq.quantize(model, scheme, statistics), tmp_path / "net.keras")
    (tmp_path / "data.npz").write_bytes((folder / "data.npz").read_bytes())
    (found,) = export(tmp_path, "fp16", tmp_path / "out")
    (wanted,) = export(folder, "fp16", tmp_path / "float")
    # Behind 4-bit activations a ReLU6 is left as a ReLU, and the mean is not rounded.
    assert found.changed == wanted.changed
    assert found.rms < plain.RMS_TOLERANCES["fp16"]

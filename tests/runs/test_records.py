from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from keras_quant.errors import RunError
from keras_quant.preprocessing import PREPROCESSINGS
from keras_quant.runs import records
from keras_quant.runs.records import (
    DatasetRecord,
    Figure,
    ModelRecord,
    QuantizationRecord,
    RunRecord,
    TrainingRecord,
)

RECORD = RunRecord(
    command=("kq", "train", "--bits", "4"),
    created="2026-01-02T03:04:05+00:00",
    kq_version="0.1.0",
    model=ModelRecord(name="mobilenet_v2", options={"alpha": 0.5}),
    dataset=DatasetRecord(
        name="digits",
        source="scikit-learn",
        sizes={"train": 1257, "validation": 180, "test": 360},
        input_shape=(8, 8, 1),
        num_classes=10,
        preprocess=PREPROCESSINGS["torch"],
    ),
    training=TrainingRecord(
        method="qkeras", seed=0, epochs=10, batch_size=64, optimizer={"name": "adam"}
    ),
    scheme={"format": 1, "name": "w4a4", "rules": [{"match": "*"}]},
    status="trained",
    float_layers=("logits",),
    figures=(Figure(name="accuracy", value=97.5, unit="%", split="test"),),
    versions=records.versions(),
    environment=records.environment(),
)


def edit(folder: Path, **changes: Any) -> None:
    """Saves RECORD with some fields of its JSON replaced."""
    path = records.save(RECORD, folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_record_survives_the_round_trip(tmp_path: Path) -> None:
    assert records.save(RECORD, tmp_path) == tmp_path / "run.json"
    assert records.load(tmp_path) == RECORD


def test_run_without_training_is_a_run(tmp_path: Path) -> None:
    quantization = QuantizationRecord(
        source="model.h5", method="qkeras", calibrator="minmax", images=512, seed=3
    )
    record = dataclasses.replace(RECORD, training=None, quantization=quantization)
    records.save(record, tmp_path)
    assert records.load(tmp_path) == record
    assert (record.seed, RECORD.seed) == (3, 0)
    assert records.differing_settings(RECORD, record) == ["training", "quantization"]


def test_what_rounds_otherwise_is_named() -> None:
    assert RECORD.training is not None
    begun = dataclasses.replace(RECORD, environment={"cores": "4", "onednn": "default"})
    other = dataclasses.replace(RECORD, environment={"cores": "2", "onednn": "0"})
    both = ["onednn default, now 0", "cores 4, now 2"]
    assert records.differing_rounding(begun, other) == both
    assert records.differing_rounding(begun, begun) == []
    training = dataclasses.replace(RECORD.training, threads=2)
    fixed = dataclasses.replace(begun, training=training)
    assert records.differing_rounding(fixed, other) == [both[0], "threads 2, now 0"]
    assert records.differing_settings(fixed, other) == []
    mirrored = dataclasses.replace(RECORD.training, strategy="mirrored", replicas=2)
    shared = dataclasses.replace(begun, training=mirrored)
    assert records.differing_rounding(begun, shared) == [
        "strategy none, now mirrored",
        "replicas 1, now 2",
    ]
    assert records.differing_settings(begun, shared) == []


def test_run_is_trained_or_quantized(tmp_path: Path) -> None:
    edit(tmp_path, training=None)
    with pytest.raises(RunError, match="one of training and quantization is needed"):
        records.load(tmp_path)


@pytest.mark.parametrize("status", records.STATUSES)
def test_every_status_is_accepted(tmp_path: Path, status: str) -> None:
    records.save(dataclasses.replace(RECORD, status=status), tmp_path)
    assert records.load(tmp_path).status == status


def test_missing_folder_and_missing_record_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="absent: no such run folder"):
        records.load(tmp_path / "absent")
    with pytest.raises(RunError, match=r"not a run folder: it has no run\.json"):
        records.load(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file: is a file, not a run's folder. kq train and kq"):
        records.load(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b'{"command": [', b"\xff\xfe\x00", b"[" * 50_000])
def test_broken_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunError, match=r"run\.json: not JSON .* Restore it from a copy, or make"):
        records.load(tmp_path)


def test_json_that_is_no_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunError, match="holds a list; .* or make the run again with --overwrite"):
        records.load(tmp_path)


def test_record_of_a_newer_kq_asks_for_an_upgrade(tmp_path: Path) -> None:
    edit(tmp_path, format_version=records.FORMAT_VERSION + 1, something_new=1)
    with pytest.raises(
        RunError, match=r"written by a newer kq \(format 2; .* Upgrade: pip"
    ) as told:
        records.load(tmp_path)
    assert "something_new" not in str(told.value)


def test_all_wrong_fields_are_told_at_once(tmp_path: Path) -> None:
    edit(tmp_path, model={"nam": "cnn"}, created=7)
    with pytest.raises(RunError) as told:
        records.load(tmp_path)
    *lines, remedy = str(told.value).splitlines()
    assert remedy == "Restore it from a copy, or make the run again with --overwrite."
    assert [line.partition("run.json: ")[2].partition(":")[0] for line in lines] == [
        "created",
        "model.nam",
        "model.name",
    ]


def test_unknown_status_is_refused(tmp_path: Path) -> None:
    edit(tmp_path, status="done")
    with pytest.raises(RunError, match="status: is 'done'; allowed are training, trained"):
        records.load(tmp_path)


@pytest.mark.parametrize("shape", [[], [0, 8, 1], [8, -8, 1]])
def test_images_without_pixels_are_refused(tmp_path: Path, shape: list[int]) -> None:
    dataset = dataclasses.replace(RECORD.dataset, input_shape=tuple(shape))
    records.save(dataclasses.replace(RECORD, dataset=dataset), tmp_path)
    with pytest.raises(RunError) as caught:
        records.load(tmp_path)
    assert f"dataset.input_shape: is {shape}; sides are 1 or more" in str(caught.value)


def test_versions_leave_out_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RECORDED_PACKAGES", ("numpy", "surely-not-installed"))
    assert list(records.versions()) == ["numpy"]


def test_environment_names_python_and_processor() -> None:
    assert all(records.environment().values())


def test_a_preprocessing_out_of_range_is_refused(tmp_path: Path) -> None:
    plain = json.loads(records.save(RECORD, tmp_path).read_text())
    plain["dataset"]["preprocess"] |= {"std": [1.0, 0.0, 1.0], "order": "grb"}
    (tmp_path / "run.json").write_text(json.dumps(plain))
    with pytest.raises(RunError) as caught:
        records.load(tmp_path)
    assert "dataset.preprocess.std[1] is 0.0; a number above 0 is allowed" in str(caught.value)
    assert "dataset.preprocess.order is 'grb'; rgb or bgr is allowed" in str(caught.value)


def test_validation_images_are_those_of_the_split_where_it_has_a_seed() -> None:
    assert RECORD.training is not None
    assert RECORD.seed == RECORD.split_seed == RECORD.training.seed
    training = dataclasses.replace(RECORD.training, seed=7, split_seed=3)
    record = dataclasses.replace(RECORD, training=training)
    assert (record.seed, record.split_seed) == (7, 3)  # members of an ensemble are told apart


@pytest.mark.parametrize("text", ["1e308", "NaN", "Infinity", "-Infinity", "-1", "100.001"])
@pytest.mark.parametrize("name", ["accuracy", "top-5", "top-1 agreement"])
def test_a_share_that_cannot_be_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with_figure(tmp_path, text, name=name, unit="%", notes="TFLite file")
    value = float(text)
    said = (
        f"run.json: figures[0].value: {name} (TFLite file) is {value!r} %; 0 to 100 % are allowed"
    )
    with pytest.raises(RunError, match=re.escape(f"{tmp_path}/{said}")):
        records.load(tmp_path)


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", "1e39"])
@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *(("size", "bytes"), ("gzip size", "bytes"), ("logical size", "bits"), ("energy", "nJ")),
        *((name, "") for name in ("parameters", "MACs", "bit operations")),
        ("root mean square difference", "%"),
    ],
)
def test_a_size_or_count_is_0_or_more(tmp_path: Path, name: str, unit: str, text: str) -> None:
    with_figure(tmp_path, text, name=name, unit=unit)
    said = f"{name} is {float(text)!r} {unit}".rstrip() + "; 0 to 3.4e+38 are allowed"
    with pytest.raises(RunError, match=re.escape(said)):
        records.load(tmp_path)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e308", "-1e39"])
def test_another_figure_is_a_number_of_float32(tmp_path: Path, text: str) -> None:
    with_figure(tmp_path, text, name="loss")
    with pytest.raises(RunError, match=r"loss is .*; a finite number, 3\.4e\+38 at most, is allow"):
        records.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "unit", "value"),
    [
        *(("accuracy", "%", value) for value in (0.0, 100.0)),
        *(("size", "bytes", value) for value in (0.0, 5e12)),
        ("root mean square difference", "%", 250.0),
        ("PSNR", "dB", -3.0),
        ("loss", "", 1e30),
    ],
)
def test_figures_at_the_ends_of_their_ranges_are_read(
    tmp_path: Path, name: str, unit: str, value: float
) -> None:
    with_figure(tmp_path, str(value), name=name, unit=unit)
    assert records.load(tmp_path).figures[0].value == value


def test_all_figures_that_cannot_be_are_told_at_once(tmp_path: Path) -> None:
    edit(tmp_path, figures=[{"name": name, "value": -1.0} for name in ("accuracy", "size", "loss")])
    with pytest.raises(RunError) as told:
        records.load(tmp_path)
    lines = str(told.value).splitlines()
    assert [line.partition("json: ")[2].partition(".value")[0] for line in lines] == [
        *("figures[0]", "figures[1]", ""),
    ]


def with_figure(folder: Path, text: str, **figure: str) -> None:
    """Saves RECORD with one figure, whose value is written as text."""
    edit(folder, figures=[{**figure, "value": 12345.5}])
    path = folder / "run.json"
    path.write_text(path.read_text().replace("12345.5", text))

"""Several widths of one training: a run each, and one file of all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.errors import RunError, SchemeError, UsageError  # noqa: E402
from keras_quant.graph.cut import cut_codes  # noqa: E402
from keras_quant.graph.nested import load_nested  # noqa: E402
from keras_quant.graph.store import pack_graph  # noqa: E402
from keras_quant.jobs import nested as module  # noqa: E402
from keras_quant.jobs.ensembles import ensemble  # noqa: E402
from keras_quant.jobs.nested import (  # noqa: E402
    FILE_NAME,
    NestedResult,
    train_nested,
    widths_of_bits,
    widths_of_channels,
)
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.methods.readers import is_quantized, read_kernel  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.model.topology import layers_by_name  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

QUIET = Progress(quiet=True)
SCHEMES = [scheme_from_bits(bits) for bits in ("8", "4", "2")]
NAMES = ["w8a8", "w4a4", "w2a2"]
WIDTHS = widths_of_bits(SCHEMES)
SETTINGS = TrainSettings(
    scheme=SCHEMES[0],
    method="nested",
    model="mlp",
    model_options={"units": 16},
    epochs=2,
    self_distill=0.5,
    loss_weights=(1.0, 1.0, 2.0),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NestedResult:
    path = tmp_path_factory.mktemp("nested") / "n"
    result = train_nested(SETTINGS, WIDTHS, path, progress=QUIET)
    assert result is not None
    return result


@pytest.mark.slow
def test_each_width_is_a_proven_run(made: NestedResult) -> None:
    assert [width.folder.path.name for width in made.widths] == [f"n-{name}" for name in NAMES]
    for width, name in zip(made.widths, NAMES, strict=True):
        record = records.load(width.folder.path)
        assert record.status == "exported" and record.scheme["name"] == name
        assert record.training is not None
        assert record.training.nested == tuple(NAMES)
        assert record.training.parent == str(made.joint)
        assert width.export.parity.passed
    joint = records.load(made.joint)
    assert joint.status == "exported" and joint.scheme["name"] == "float"
    assert len((made.joint / "history.csv").read_text().splitlines()) == 1 + SETTINGS.epochs
    assert not (made.joint / "checkpoint.npz").exists()


def test_a_teacher_that_cannot_be_loaded_is_told_before_earlier_widths_are_deleted(
    tmp_path: Path,
) -> None:
    earlier = make_run(tmp_path / "n-w2a2")
    settings = dataclasses.replace(
        SETTINGS, self_distill=0.0, distill=0.5, teachers=(tmp_path / "nothing",)
    )
    with pytest.raises(UsageError, match="no such run or model"):
        train_nested(settings, WIDTHS, tmp_path / "n", overwrite=True, progress=QUIET)
    assert (earlier / records.FILE_NAME).exists() and not (tmp_path / "n").exists()


def test_bits_that_a_width_cannot_have_are_told_before_earlier_widths_are_deleted(
    tmp_path: Path,
) -> None:
    earlier = make_run(tmp_path / "n-w1a4")
    widths = widths_of_bits([scheme_from_bits("4"), scheme_from_bits("w1a4")])
    settings = dataclasses.replace(SETTINGS, scheme=widths[0].scheme, loss_weights=())
    with pytest.raises(SchemeError, match="weights of 1 bit: nested cuts 2 to 8"):
        train_nested(settings, widths, tmp_path / "n", overwrite=True, progress=QUIET)
    assert (earlier / records.FILE_NAME).exists() and not (tmp_path / "n").exists()


@pytest.mark.slow
def test_codes_of_narrow_widths_are_bits_of_the_widest(made: NestedResult) -> None:
    widest, *narrow = [layers_by_name(load_model(w.folder.model)) for w in made.widths]
    quantized = [name for name, layer in widest.items() if is_quantized(layer)]
    assert quantized
    for layers, (bits, qmin, qmax) in zip(narrow, [(4, -7, 7), (2, -2, 1)], strict=True):
        for name in quantized:
            base, found = read_kernel(widest[name]), read_kernel(layers[name])
            if found.bits == bits:
                expected = cut_codes(base.values, bits=bits, qmin=qmin, qmax=qmax)
            else:
                assert found.bits == 8  # the first and the last layer
                expected = base.values
            np.testing.assert_array_equal(found.values, expected)


@pytest.mark.slow
def test_one_file_holds_the_graphs_of_all(made: NestedResult) -> None:
    assert made.file == made.joint / FILE_NAME
    again = load_nested(made.file)
    for width, name in zip(made.widths, NAMES, strict=True):
        assert pack_graph(again[name]) == width.folder.graph.read_bytes()
    assert made.file_bytes == made.file.stat().st_size < made.graph_bytes
    sizes = {f.notes: f.value for f in records.load(made.joint).figures if f.name == "size"}
    assert sizes["graphs of all widths, in one"] == made.file_bytes


@pytest.mark.slow
def test_finished_widths_are_kept_and_stand_as_members(made: NestedResult) -> None:
    assert train_nested(SETTINGS, WIDTHS, made.joint, resume=True, progress=QUIET) is None
    done = ensemble([width.folder.path for width in made.widths], progress=QUIET)
    assert len(done.members) == 3
    with pytest.raises(RunError, match="there already"):
        train_nested(SETTINGS, WIDTHS, made.joint, progress=QUIET)


def test_widths_of_another_training_are_not_replaced_unasked(tmp_path: Path) -> None:
    make_run(tmp_path / "n-w4a4")
    with pytest.raises(RunError, match="n-w4a4: there already, and not of an unfinished"):
        train_nested(SETTINGS, WIDTHS, tmp_path / "n", progress=QUIET)
    assert (tmp_path / "n-w4a4" / records.FILE_NAME).exists()


def test_widths_that_would_be_replaced_are_kept_where_training_cannot_begin(tmp_path: Path) -> None:
    run = make_run(tmp_path / "n-w4a4")
    odd = dataclasses.replace(SETTINGS, loss_weights=(1.0,))
    with pytest.raises(UsageError, match="has 1 numbers"):
        train_nested(odd, WIDTHS, tmp_path / "n", overwrite=True, progress=QUIET)
    assert (run / records.FILE_NAME).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "qkeras"}, "--method qkeras has no way to; allowed: nested, lsq"),
        ({"freeze_oscillations": True}, "--freeze-oscillations holds codes of one width"),
        ({"loss_weights": (1.0,)}, "has 1 numbers; mlp has 3 outputs: w8a8, w4a4, w2a2"),
        (
            {"exits": ("relu1",), "loss_weights": ()},
            "are for models with one output, of classes",
        ),
    ],
)
def test_what_cannot_be_nested_is_told(tmp_path: Path, changes: dict, message: str) -> None:
    settings = dataclasses.replace(SETTINGS, **changes)
    with pytest.raises(UsageError, match=message):
        train_nested(settings, WIDTHS, tmp_path / "n", progress=QUIET)
    assert not list(tmp_path.iterdir())


def test_shares_whose_runs_would_have_one_name_are_told() -> None:
    told = "0.2512301 and 0.2512302 would both be the run x0.25123; give shares that differ"
    with pytest.raises(UsageError, match=told):
        widths_of_channels(SCHEMES[0], (0.2512301, 0.2512302, 1.0))
    near = widths_of_channels(SCHEMES[0], (0.251, 0.2512, 1.0))
    assert [width.name for width in near] == ["x1", "x0.2512", "x0.251"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_after_its_last_epoch(tmp_path: Path, monkeypatch) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=1, loss_weights=())
    finish, done = module.finish, []

    def stopped(*given, **named):
        if len(done) == 1:
            raise RunError("stopped")
        done.append(finish(*given, **named))
        return done[-1]

    monkeypatch.setattr(module, "finish", stopped)
    make_run(tmp_path / "n-w8a8")  # of an earlier training, with its graph
    with pytest.raises(RunError, match="stopped"):
        train_nested(settings, WIDTHS[:2], tmp_path / "n", overwrite=True, progress=QUIET)
    first = (tmp_path / "n-w8a8" / "export" / "model.kqgraph").read_bytes()
    monkeypatch.setattr(module, "finish", finish)
    saved, save = [], records.save

    def watched(record: records.RunRecord, folder: Path) -> Path:
        saved.append((folder, record.status, {figure.notes for figure in record.figures}))
        return save(record, folder)

    monkeypatch.setattr(records, "save", watched)
    made = train_nested(settings, WIDTHS[:2], tmp_path / "n", resume=True, progress=QUIET)
    # A kill costs no figure: a run that is finished, so that nothing goes on with it, has all.
    (notes,) = [notes for path, *now, notes in saved if (path.name, *now) == ("n", "exported")]
    assert {"graphs of all widths, in one", "graphs of all widths, a file each"} <= notes
    assert made is not None and made.file is not None
    assert made.widths[0].folder.graph.read_bytes() == first
    assert len((tmp_path / "n" / "history.csv").read_text().splitlines()) == 2


NET = """
from keras_quant.tf import keras

L = keras.layers

def build(input_shape, num_classes):
    x = inputs = keras.Input(input_shape, name="image")
    x = L.ReLU(name="relu0")(L.BatchNormalization(name="bn0")(L.Conv2D(8, 3, name="conv0")(x)))
    a = L.BatchNormalization(name="bn1")(L.Conv2D(8, 3, padding="same", name="conv1")(x))
    x = L.ReLU(name="relu1")(L.Add(name="add")([x, a]))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(inputs, L.Dense(num_classes, name="logits")(x))
"""


@pytest.mark.slow
def test_nets_of_the_first_channels_are_proven_and_share_one_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    scheme = scheme_from_bits("4")
    settings = TrainSettings(
        scheme=scheme, method="nested", model=f"{tmp_path / 'net.py'}:build", epochs=1
    )
    widths = widths_of_channels(scheme, (0.5, 1.0))
    made = train_nested(settings, widths, tmp_path / "s", progress=QUIET)
    assert made is not None and made.file is not None
    whole, narrow = made.widths
    assert [one.folder.path.name for one in made.widths] == ["s-x1", "s-x0.5"]
    assert whole.export.parity.passed and narrow.export.parity.passed
    assert records.load(narrow.folder.path).model.share == 0.5
    kernels = [
        load_model(one.folder.model).get_layer("conv1").get_weights()[0] for one in (whole, narrow)
    ]
    np.testing.assert_array_equal(kernels[1], kernels[0][:, :, :4, :4])
    again = load_nested(made.file)
    for one, name in zip(made.widths, ("x1", "x0.5"), strict=True):
        assert pack_graph(again[name]) == one.folder.graph.read_bytes()

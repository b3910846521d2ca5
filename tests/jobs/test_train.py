"""Runs that are stopped, fail or diverge: what is left, and how they go on."""

from __future__ import annotations

import csv
import dataclasses
import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytestmark = [
    pytest.mark.tensorflow,
    pytest.mark.filterwarnings("ignore:The .keras.constraints.serialize"),
]

from keras_quant.data.pipeline import TrainBatches  # noqa: E402
from keras_quant.emit.tflite.emit import emit_tflite  # noqa: E402
from keras_quant.errors import (  # noqa: E402
    KerasQuantWarning,
    ParityError,
    RunError,
    SchemeError,
    TrainingError,
    UsageError,
)
from keras_quant.files import FileError  # noqa: E402
from keras_quant.graph.ir import Graph  # noqa: E402
from keras_quant.jobs import train as training  # noqa: E402
from keras_quant.jobs.train import train  # noqa: E402
from keras_quant.jobs.train_settings import TrainSettings  # noqa: E402
from keras_quant.model.files import load_model  # noqa: E402
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.history import Epoch  # noqa: E402
from keras_quant.runs.lock import LOCK_NAME, locked  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.schemes.bits import scheme_from_bits  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training.loop import LoopSettings  # noqa: E402
from keras_quant.training.optimizer_settings import OptimizerSettings  # noqa: E402
from tests.fake_runs import make_run  # noqa: E402

SETTINGS = TrainSettings(
    scheme=scheme_from_bits("4"), model="mlp", model_options={"units": 16}, epochs=2
)
ONE_EPOCH = dataclasses.replace(SETTINGS, epochs=1)
SHORT_OF_A_CHECKPOINT = 20_000  # bytes; the model's checkpoint has 36 kB, its record 3 kB


class Stopped(BaseException):
    """Stands for whatever ends a process between two statements."""


class StopsAfter(Progress):
    """Ends the process, as it were, after an epoch's line."""

    def __init__(self, epoch: int, *, quiet: bool = True) -> None:
        super().__init__(quiet=quiet)
        self.last = epoch

    def epoch(self, row: Epoch, epochs: int) -> None:
        if row.epoch == self.last:
            raise Stopped


def run(path: Path, settings: TrainSettings = SETTINGS, *, resume: bool = False) -> Path:
    """Trains a run to its end."""
    train(settings, path, resume=resume, progress=Progress(quiet=True))
    return path


def stopped(path: Path, settings: TrainSettings = SETTINGS, *, after: int = 1) -> Path:
    """Trains a run and stops it after an epoch."""
    with pytest.raises(Stopped):
        train(settings, path, command=("first",), progress=StopsAfter(after))
    return path


def history(path: Path) -> list[dict[str, str]]:
    """Rows of history.csv, without what no seed decides."""
    rows = list(csv.DictReader((path / "history.csv").open()))
    return [{name: text for name, text in row.items() if name != "seconds"} for row in rows]


def assert_same_run(path: Path, expected: Path) -> None:
    assert history(path) == history(expected)
    pairs = zip(
        load_model(path / "model.keras").get_weights(),
        load_model(expected / "model.keras").get_weights(),
        strict=True,
    )
    assert all(np.array_equal(new, old) for new, old in pairs)
    tflite = Path("export", "model.tflite")
    assert (path / tflite).read_bytes() == (expected / tflite).read_bytes()
    assert records.load(path).figures == records.load(expected).figures


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SETTINGS, trained without a stop."""
    return run(tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SETTINGS, stopped after the first of two epochs."""
    return stopped(tmp_path_factory.mktemp("half") / "run")


@pytest.fixture
def begun(half: Path, tmp_path: Path) -> Path:
    """A stopped run that a test may change."""
    return shutil.copytree(half, tmp_path / "run")


@pytest.mark.parametrize("how", [{"resume": True}, {"overwrite": True}])
def test_a_run_that_another_process_works_on_is_left_alone(
    begun: Path, how: dict[str, bool]
) -> None:
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    with locked(begun), pytest.raises(RunError, match=f"process {os.getpid()} works on it"):
        train(SETTINGS, begun, **how, progress=Progress(quiet=True))
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
def test_a_run_that_goes_on_where_sums_round_otherwise_says_so(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with pytest.warns(KerasQuantWarning, match="not to the bits .* onednn default, now 0$"):
        run(begun, resume=True)


def test_other_threads_than_tensorflow_already_uses_are_refused(tmp_path: Path) -> None:
    tf.reduce_sum([1.0, 2.0])
    settings = dataclasses.replace(SETTINGS, threads=3)
    with pytest.raises(UsageError, match="3 threads: TensorFlow is at work in this process"):
        run(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_threads_are_set_and_recorded(tmp_path: Path) -> None:
    script = (
        "from keras_quant.cli.main import main\n"
        "try:\n main(['train', '--model', 'mlp', '--epochs', '1', '--threads', '1'])\n"
        "except SystemExit as end:\n assert end.code == 0\n"
        "import tensorflow as tf\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    words = [sys.executable, "-c", script]
    out = subprocess.run(words, cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE).stdout
    assert out.split()[-1] == "1"
    (path,) = (tmp_path / "models").iterdir()
    training = records.load(path).training
    assert training is not None and training.threads == 1


@pytest.mark.slow
def test_stopped_training_goes_on_to_the_same_weights(begun: Path, whole: Path) -> None:
    before = records.load(begun)
    assert (before.status, len(history(begun))) == ("training", 1)
    assert not (begun / "model.keras").exists()
    train(SETTINGS, begun, command=("second",), resume=True, progress=Progress(quiet=True))
    assert_same_run(begun, whole)
    assert not (begun / "checkpoint.npz").exists()
    after = records.load(begun)
    assert (after.command, after.created) == (("first",), before.created)


@pytest.mark.slow
def test_history_that_a_stop_left_behind_the_checkpoint_is_made_up(
    tmp_path: Path, whole: Path
) -> None:
    path = stopped(tmp_path / "run", after=2)
    (path / "history.csv").unlink()
    assert_same_run(run(path, resume=True), whole)


@pytest.mark.slow
def test_run_stopped_before_its_first_epoch_starts_again(begun: Path, whole: Path) -> None:
    for name in ("checkpoint.npz", "history.csv", "scheme.yaml", "statistics.npz"):
        (begun / name).unlink()
    assert_same_run(run(begun, resume=True), whole)
    assert (begun / "scheme.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"patience": 2},
        {"augment": True},
        {"optimizer": OptimizerSettings(name="sgd", learning_rate=0.1, schedule="step")},
        {"optimizer": OptimizerSettings(weight_decay=0.1, warmup_epochs=1.5)},
        {"model": "vae", "dataset": "digits+elbo", "model_options": {"units": 8, "latent": 2}},
    ],
    ids=str,
)
def test_whatever_the_settings_a_stop_changes_nothing(tmp_path: Path, changes: dict) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=3, **changes)
    path = stopped(tmp_path / "run", settings, after=2)
    assert_same_run(run(path, settings, resume=True), run(tmp_path / "whole", settings))


def test_checkpoint_of_another_model_is_refused(begun: Path) -> None:
    with np.load(begun / "checkpoint.npz") as file:
        arrays = dict(file)
    arrays["weights_00000"] = arrays["weights_00000"][:-1]
    np.savez(begun / "checkpoint.npz", **arrays)
    with pytest.raises(RunError, match="checkpoint.npz: is of another model.*--overwrite"):
        run(begun, resume=True)


def wrong_file(graph: Graph, **options: object) -> bytes:
    """The file of the graph with its first kernel's rows turned round."""
    nodes = list(graph.nodes)
    first = next(i for i, node in enumerate(nodes) if node.weight is not None)
    kernel = nodes[first].weight
    turned = dataclasses.replace(kernel, values=np.roll(kernel.values, 1, axis=0))
    nodes[first] = dataclasses.replace(nodes[first], weight=turned)
    return emit_tflite(dataclasses.replace(graph, nodes=tuple(nodes)), **options)


@pytest.mark.slow
def test_failed_gate_leaves_a_trained_run_that_goes_on_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("keras_quant.proof.formats.tflite.emit_tflite", wrong_file)
        with pytest.raises(ParityError, match="does not answer as the model does"):
            run(path, ONE_EPOCH)
    names = sorted(file.name for file in (path / "export").iterdir() if file.name != LOCK_NAME)
    assert names == ["model.failed-parity.tflite", "model.kqgraph", "parity.json"]
    record = records.load(path)
    assert record.status == "trained"
    assert [figure.notes for figure in record.figures if figure.name == "accuracy"] == [
        "Keras model"
    ]
    run(path, ONE_EPOCH, resume=True)
    names = sorted(file.name for file in (path / "export").iterdir() if file.name != LOCK_NAME)
    assert names == ["model.kqgraph", "model.tflite", "parity.json"]
    assert records.load(path).status == "exported"


@pytest.fixture
def full_disk() -> Callable[[int], None]:
    """Limits how long a file may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_checkpoint_that_does_not_fit_the_disk_leaves_a_run_that_goes_on(
    begun: Path, whole: Path, full_disk: Callable[[int], None]
) -> None:
    before = (begun / "checkpoint.npz").read_bytes()
    full_disk(SHORT_OF_A_CHECKPOINT)
    with pytest.raises(FileError, match="checkpoint.npz: not written: File too large"):
        run(begun, resume=True)
    full_disk(resource.RLIM_INFINITY)
    assert (begun / "checkpoint.npz").read_bytes() == before
    assert [path.name for path in begun.glob(".*")] == [LOCK_NAME]
    assert_same_run(run(begun, resume=True), whole)


@pytest.mark.slow
def test_whichever_file_the_disk_has_no_room_for_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(tmp_path / "whole", ONE_EPOCH)
    fsync, failed = os.fsync, []

    def fill_up(path: Path, writes: int) -> None:
        """Trains with room for that many files."""
        done = 0

        def sync(descriptor: int) -> None:
            nonlocal done
            done += 1
            if done > 2 * writes:  # each file is synced, then its folder
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            run(path, ONE_EPOCH)

    for writes in range(100):
        path = tmp_path / str(writes)
        try:
            fill_up(path, writes)
            break
        except FileError as error:
            assert "Free some space on that disk" in str(error)  # noqa: PT017
            failed.append(str(error).partition(": ")[0].rpartition("/")[2])
        assert {file.name for file in path.rglob(".*")} == {LOCK_NAME}
        begun = (path / "run.json").exists()
        if not (begun and records.load(path).status == "exported"):  # what failed came behind that
            train(ONE_EPOCH, path, resume=begun, progress=Progress(quiet=True))
        assert_same_run(path, expected)
    assert failed == [
        *("run.json", "scheme.yaml", "statistics.npz", "checkpoint.npz", "history.csv"),
        *("model.keras", "model.keras", "run.json"),
        # First of an export parity.json says which files change; of these the third to be synced.
        *("parity.json", "model.kqgraph", "parity.json", "run.json"),
    ]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_diverging_run_keeps_the_weights_of_its_last_good_epoch(
    tmp_path: Path, precision: str
) -> None:
    settings = dataclasses.replace(SETTINGS, precision=precision)
    path = stopped(tmp_path / "run", settings)
    with np.load(path / "checkpoint.npz") as file:
        arrays = dict(file)
    # With such moments, the optimizer's next step goes nowhere.
    moments = [name for name in arrays if name.startswith("optimizer_") and arrays[name].ndim]
    broken = {name: np.full_like(arrays[name], np.nan) for name in moments}
    np.savez(path / "checkpoint.npz", **arrays | broken)
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 2.*lower --learning-rate"):
        run(path, settings, resume=True)
    good = [arrays[name] for name in sorted(arrays) if name.startswith("weights_")]
    saved = load_model(path / "model.keras").get_weights()
    assert all(np.array_equal(w, v) for w, v in zip(saved, good, strict=True))
    assert records.load(path).status == "training"


@pytest.mark.parametrize(("has_gpu", "policy"), [(False, "float32"), (True, "mixed_bfloat16")])
def test_bfloat16_is_keras_policy_on_a_gpu_and_a_rewriting_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, policy: str
) -> None:
    seen = []
    monkeypatch.setattr("keras_quant.jobs.train.has_gpu", lambda: has_gpu)
    monkeypatch.setattr("keras_quant.jobs.train.can_rewrite", lambda: not has_gpu)

    def train_epochs(
        model: keras.Model, trained: keras.Model, _: object, settings: LoopSettings, **__: object
    ) -> None:
        seen.append((trained is model, trained.layers[-1].dtype_policy.name, settings.bfloat16))
        raise Stopped

    monkeypatch.setattr("keras_quant.jobs.train.train_epochs", train_epochs)
    with pytest.raises(Stopped):
        run(tmp_path / "run", dataclasses.replace(ONE_EPOCH, precision="bf16"))
    assert seen == [(not has_gpu, policy, not has_gpu)]


def test_bfloat16_that_tensorflow_has_not_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_quant.jobs.train.has_gpu", lambda: False)
    monkeypatch.setattr("keras_quant.jobs.train.can_rewrite", lambda: False)
    with pytest.raises(UsageError, match="with oneDNN alone.* leave the option out"):
        run(tmp_path / "run", dataclasses.replace(ONE_EPOCH, precision="bf16"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "instructions", "told"),
    [
        ({}, {"avx2"}, "no instructions for bfloat16"),
        (
            {"model": "ds_cnn", "model_options": {}},
            {"amx_bf16"},
            "depthwise convolutions stay float32",
        ),
        ({}, {"amx_bf16"}, None),
    ],
)
def test_where_bfloat16_gains_little_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: dict[str, object],
    instructions: set[str],
    told: str | None,
) -> None:
    def train_epochs(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr("keras_quant.jobs.train.has_gpu", lambda: False)
    monkeypatch.setattr("keras_quant.jobs.train.can_rewrite", lambda: True)
    monkeypatch.setattr("keras_quant.jobs.train.instructions", lambda: frozenset(instructions))
    monkeypatch.setattr("keras_quant.jobs.train.train_epochs", train_epochs)
    settings = dataclasses.replace(ONE_EPOCH, precision="bf16", **model)
    with pytest.raises(Stopped):
        train(settings, tmp_path / "run", progress=Progress(quiet=False))
    said = capsys.readouterr().err
    assert told in said if told else "bf16" not in said


@pytest.mark.parametrize("augment", [False, True])
def test_norms_are_measured_again_on_images_like_those_of_the_epochs(
    augment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, reestimate_norms=True, augment=augment, batch_size=100)
    dataset = dataclasses.replace(training.load_images(settings), preprocessing=UNIT)
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        training, "reestimate_norms", lambda model, batches: seen.extend(batches) or 1
    )
    net = keras.Sequential([keras.Input(dataset.input_shape), keras.layers.Flatten()])
    training.reestimate(net, dataset, settings, Progress())
    batches = TrainBatches(dataset, batch_size=100, seed=settings.seed, augment=augment)
    expected = [images for images, _ in batches(settings.epochs).as_numpy_iterator()]
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_teacher_that_cannot_be_loaded_is_told_before_a_folder_is_made_or_replaced(
    tmp_path: Path, overwrite: bool
) -> None:
    path = make_run(tmp_path / "run") if overwrite else tmp_path / "run"
    earlier = {file.name: file.read_bytes() for file in path.glob("*.*")}
    settings = dataclasses.replace(ONE_EPOCH, distill=0.5, teachers=(tmp_path / "nothing",))
    with pytest.raises(UsageError, match="no such run or model"):
        train(settings, path, overwrite=overwrite, progress=Progress(quiet=True))
    assert path.exists() == overwrite
    assert {file.name: file.read_bytes() for file in path.glob("*.*")} == earlier


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"freeze_oscillations": True}, UsageError, "and no layer of this scheme has one"),
        (
            {"method": "lsq", "scheme": scheme_from_bits("w1a4")},
            SchemeError,
            "weights of 1 bit: lsq learns the step of 2 to 8",
        ),
    ],
    ids=["held", "bits"],
)
def test_what_a_model_cannot_have_is_told_before_a_folder_is_made_or_replaced(
    tmp_path: Path, changes: dict, error: type[Exception], told: str, overwrite: bool
) -> None:
    path = make_run(tmp_path / "run") if overwrite else tmp_path / "run"
    earlier = {file.name: file.read_bytes() for file in path.glob("*.*")}
    settings = dataclasses.replace(ONE_EPOCH, **changes)
    with pytest.raises(error, match=told):
        train(settings, path, overwrite=overwrite, progress=Progress(quiet=True))
    assert path.exists() == overwrite
    assert {file.name: file.read_bytes() for file in path.glob("*.*")} == earlier


def test_a_run_that_is_there_is_told_before_images_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "collect_statistics", None)
    with pytest.raises(RunError, match="a run of that name exists"):
        train(ONE_EPOCH, make_run(tmp_path / "run"), progress=Progress(quiet=True))


def test_gradients_that_would_wait_for_ever_are_told(tmp_path: Path) -> None:
    # Of 1,437 digits to train on 1,293 are left beside a tenth for validation: 10 batches of 128.
    settings = dataclasses.replace(SETTINGS, accumulate=21)
    told = "--accumulate 21 waits .* are 10 batches an epoch, and --epochs is 2; 1 to 20 is allowed"
    with pytest.raises(UsageError, match=told):
        train(settings, tmp_path / "run", progress=Progress(quiet=True))
    assert not (tmp_path / "run").exists()


def test_losses_that_all_weigh_nothing_are_told() -> None:
    assert dataclasses.replace(SETTINGS, loss_weights=(0.0, 1.0)).problems() == []
    (told,) = dataclasses.replace(SETTINGS, loss_weights=(0.0, 0.0)).problems()
    assert told.startswith("--loss-weights are all 0, by which nothing is learned")


DROPPING = """
from keras_quant.tf import keras

L = keras.layers

def build(input_shape, num_classes):
    x = inputs = keras.Input(input_shape, name="image")
    x = L.Dropout(0.5, name="drop")(L.ReLU(name="relu")(L.Dense(8, name="d")(L.Flatten()(x))))
    x = L.BatchNormalization(name="norm")(L.Dense(8, name="e")(x))
    return keras.Model(inputs, L.Dense(num_classes, name="logits")(x))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2])
def test_norms_measured_behind_a_dropout_are_the_same_after_a_stop(
    tmp_path: Path, after: int
) -> None:
    (tmp_path / "net.py").write_text(DROPPING)
    settings = TrainSettings(
        scheme=scheme_from_bits("4"),
        model=f"{tmp_path / 'net.py'}:build",
        epochs=2,
        reestimate_norms=True,
    )
    path = stopped(tmp_path / "run", settings, after=after)
    assert_same_run(run(path, settings, resume=True), run(tmp_path / "whole", settings))


def test_all_settings_out_of_range_are_told_at_once(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, epochs=0, seed=-1, precision="fp16")
    with pytest.raises(UsageError, match=r"--epochs is 0.*--seed is -1.*--precision is 'fp16'"):
        run(tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


LEAKY_NET = """
def build(input_shape, num_classes):
    from keras_quant.tf import keras
    L = keras.layers
    inputs = keras.Input(input_shape)
    x = L.LeakyReLU(0.1)(L.Conv2D(4, 3, strides=2)(inputs))
    return keras.Model(inputs, L.Dense(num_classes)(L.Flatten()(x)))
"""


@pytest.mark.slow
def test_function_that_is_lowered_between_codes_only_is_trained(tmp_path: Path) -> None:
    """The float model's size is then that of the converter's file."""
    (tmp_path / "net.py").write_text(LEAKY_NET)
    settings = dataclasses.replace(ONE_EPOCH, model=f"{tmp_path}/net.py:build", model_options={})
    figures = records.load(run(tmp_path / "run", settings)).figures
    (size,) = [f for f in figures if f.notes == "float TFLite file"]
    kernels = 4 * (9 * 4 + 4 + 9 * 4 * 10 + 10)
    assert kernels < size.value < kernels + 6000

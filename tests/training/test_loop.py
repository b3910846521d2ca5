from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from keras_quant.data import Dataset, Split
from keras_quant.errors import RunError, TrainingError
from keras_quant.methods.qkeras import twin as method
from keras_quant.model.metrics import psnr
from keras_quant.preprocessing import UNIT  # noqa: E402
from keras_quant.qparams import unsigned
from keras_quant.runs.history import Epoch
from keras_quant.runs.progress import Progress
from keras_quant.schemes.scheme import QuantSpec
from keras_quant.training.checkpoint import FILE_NAME
from keras_quant.training.optimizer_settings import OptimizerSettings

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.methods import dorefa, lsq  # noqa: E402
from keras_quant.tf import keras, tf  # noqa: E402
from keras_quant.training import loop as module  # noqa: E402
from keras_quant.training.loop import LoopSettings, train_epochs  # noqa: E402
from keras_quant.training.objectives import OBJECTIVES, objectives_of  # noqa: E402
from keras_quant.zoo import build  # noqa: E402

L = keras.layers
SETTINGS = LoopSettings(
    epochs=4, batch_size=16, seed=0, augment=False, optimizer=OptimizerSettings(learning_rate=0.01)
)
DROPOUT = 0.5


def dataset() -> Dataset:
    """Two classes that differ in brightness."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 96).astype(np.int32)
    x = np.clip(rng.normal(90 + 60 * y[:, None, None, None], 30, (96, 4, 4, 1)), 0, 255)
    split = Split(x=x.astype(np.uint8), y=y)
    part = Split(x=split.x[64:], y=y[64:])
    train = Split(x=split.x[:64], y=y[:64])
    return Dataset(
        name="toy",
        train=train,
        validation=part,
        test=part,
        class_names=("a", "b"),
        source="toy",
        preprocessing=UNIT,
    )


def wrapped(layer: keras.layers.Layer, *, bits: int) -> keras.layers.Layer:
    return method.wrap(layer, QuantSpec(bits=bits), method.QKerasOptions())


def net(*, dropout: float = 0.0) -> keras.Model:
    """Quantized, with batch norm; equal weights each time."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4, 4, 1))
    x = wrapped(L.Conv2D(4, 3, use_bias=False), bits=4)(x)
    x = L.BatchNormalization(momentum=0.5)(x)
    x = method.activation("act", unsigned(4, 0.25))(x)
    x = L.Dropout(dropout)(x) if dropout else x
    return keras.Model(inputs, wrapped(L.Dense(2), bits=8)(L.Flatten()(x)))


def linear() -> keras.Model:
    """One dense layer, quick to trace; equal weights each time."""
    keras.utils.set_random_seed(0)
    return keras.Sequential([L.Flatten(input_shape=(4, 4, 1)), L.Dense(2)])


def run(model: keras.Model, folder: Path, *, resume: bool = False, **changes) -> tuple[Epoch, ...]:
    settings = dataclasses.replace(SETTINGS, **changes)
    quiet = Progress(quiet=True)
    folder.mkdir(exist_ok=True)
    return train_epochs(
        model, model, dataset(), settings, folder=folder, resume=resume, progress=quiet
    )


def timeless(history: tuple[Epoch, ...]) -> list[Epoch]:
    return [dataclasses.replace(row, seconds=0.0) for row in history]


def assert_equal_weights(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a training that nothing stopped came to."""

    history: list[Epoch]
    weights: list[np.ndarray]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """SETTINGS on a net that draws at random, so that what it draws has to repeat too."""
    model = net(dropout=DROPOUT)
    history = run(model, tmp_path_factory.mktemp("loop") / "whole")
    return Whole(history=timeless(history), weights=model.get_weights())


@pytest.mark.slow
def test_training_learns_and_writes_its_history(tmp_path: Path) -> None:
    history = run(net(), tmp_path, epochs=8)
    assert [row.epoch for row in history] == list(range(1, 9))
    assert history[-1].loss < 0.7 * history[0].loss
    assert history[-1].val_score > 0.9
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [float(row["val_accuracy"]) for row in rows] == pytest.approx(
        [row.val_score for row in history], rel=1e-5
    )


@pytest.mark.slow
def test_same_seed_gives_the_same_weights(whole: Whole, tmp_path: Path) -> None:
    model = net(dropout=DROPOUT)
    assert timeless(run(model, tmp_path)) == whole.history
    assert_equal_weights(model.get_weights(), whole.weights)


@pytest.mark.slow
def test_a_teacher_is_learned_from(tmp_path: Path) -> None:
    teacher, student = linear(), linear()
    teacher.set_weights([0 * w for w in teacher.get_weights()])
    quiet = Progress(quiet=True)
    settings = dataclasses.replace(SETTINGS, distill=1.0)
    logits = student.predict(dataset().test.x / 255, verbose=0)
    train_epochs(
        *(student, student, dataset(), settings),
        teacher=teacher,
        folder=tmp_path,
        resume=False,
        progress=quiet,
    )
    # The teacher holds all classes alike; labels would drive the answers apart.
    trained = student.predict(dataset().test.x / 255, verbose=0)
    assert np.ptp(trained, axis=1).mean() < 0.8 * np.ptp(logits, axis=1).mean()
    assert all((w == 0).all() for w in teacher.get_weights())


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    models = [linear(), linear()]
    for number, model in enumerate(models):
        run(model, tmp_path / str(number), epochs=1, seed=number)
    assert (models[0].get_weights()[0] != models[1].get_weights()[0]).any()


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, 3])
def test_killed_training_goes_on_as_if_it_had_not_been(
    whole: Whole, tmp_path: Path, stop_after: int, monkeypatch
) -> None:
    class KilledError(BaseException):
        """Stands for a kill: nothing catches it."""

    def killing(self: Progress, row: Epoch, epochs: int) -> None:
        if row.epoch == stop_after:
            raise KilledError

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Progress, "epoch", killing)
        run(net(dropout=DROPOUT), tmp_path)
    again = net(dropout=DROPOUT)
    again.set_weights([w * 0 for w in again.get_weights()])  # all comes from the checkpoint
    assert timeless(run(again, tmp_path, resume=True)) == whole.history
    assert_equal_weights(again.get_weights(), whole.weights)


def test_what_layers_inside_of_a_model_draw_goes_on_as_if_nothing_had_stopped_it(
    tmp_path: Path,
) -> None:
    def outer() -> keras.Model:
        keras.utils.set_random_seed(0)
        flat = L.Flatten(input_shape=(4, 4, 1))
        inner = keras.Sequential([flat, L.Dropout(DROPOUT), L.Dense(2)], name="width")
        inputs = keras.Input((4, 4, 1))
        return keras.Model(inputs, inner(inputs))

    whole = outer()
    run(whole, tmp_path / "whole")

    class KilledError(BaseException):
        """Stands for a kill: nothing catches it."""

    def killing(self: Progress, row: Epoch, epochs: int) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Progress, "epoch", killing)
        run(outer(), tmp_path / "cut")
    again = outer()
    run(again, tmp_path / "cut", resume=True)
    assert_equal_weights(again.get_weights(), whole.get_weights())


def test_resuming_a_finished_training_trains_no_more(tmp_path: Path) -> None:
    model = linear()
    history = run(model, tmp_path, epochs=2)
    again = linear()
    assert run(again, tmp_path, epochs=2, resume=True) == history
    assert_equal_weights(again.get_weights(), model.get_weights())


def test_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(linear(), tmp_path, epochs=1)
    with pytest.raises(RunError, match=r"of another model than is built now; .*--overwrite"):
        run(net(), tmp_path, epochs=2, resume=True)


def poisoned(*, first_epoch: int, batch: int) -> type:
    """TrainBatches whose images are NaN from one batch of an epoch on."""

    class Poisoned(module.TrainBatches):
        def __call__(self, epoch: int) -> tf.data.Dataset:
            first = batch if epoch + 1 >= first_epoch else 10**6
            found = super().__call__(epoch).enumerate()
            return found.map(lambda i, xy: (xy[0] if i < first else xy[0] * np.nan, xy[1]))

    return Poisoned


@pytest.mark.slow
def test_nan_loss_stops_and_leaves_the_weights_before_the_epoch(
    tmp_path: Path, monkeypatch
) -> None:
    good = linear()
    run(good, tmp_path / "good", epochs=2, optimizer=OptimizerSettings(schedule="constant"))
    model = linear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "TrainBatches", poisoned(first_epoch=3, batch=1))
        with pytest.raises(TrainingError, match=r"loss became nan in epoch 3, batch 2\. .*--learn"):
            run(model, tmp_path / "bad", optimizer=OptimizerSettings(schedule="constant"))
    assert_equal_weights(model.get_weights(), good.get_weights())


def test_weights_that_become_nan_in_the_last_batch_are_noticed(tmp_path: Path) -> None:
    """The loss is that before the update, so only validation can tell."""

    class Breaking(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            weights = self.model.get_weights()
            self.model.set_weights([w * np.nan for w in weights])

    model = linear()
    before = [np.copy(w) for w in model.get_weights()]
    original = model.fit
    model.fit = lambda *a, callbacks, **k: original(*a, callbacks=[*callbacks, Breaking()], **k)
    with pytest.raises(TrainingError, match="validation loss became nan in epoch 1"):
        run(model, tmp_path)
    assert_equal_weights(model.get_weights(), before)
    assert not (tmp_path / FILE_NAME).exists()


def scripted(monkeypatch, accuracies: list[float]) -> None:
    """Makes validation report these accuracies."""
    left = iter(accuracies)
    measured = dataclasses.replace(
        OBJECTIVES["classification"], measure=lambda labels, logits: (1.0, next(left))
    )
    monkeypatch.setattr(module, "objectives_of", lambda model, tasks, span: (measured,))


@pytest.mark.slow
def test_early_stopping_ends_after_its_patience_and_keeps_the_best(
    tmp_path: Path, monkeypatch
) -> None:
    settings = {"epochs": 9, "optimizer": OptimizerSettings(schedule="constant")}
    scripted(monkeypatch, [0.5, 0.8, 0.6, 0.7])
    model = linear()
    history = run(model, tmp_path / "stopped", patience=2, **settings)
    assert [row.val_score for row in history] == [0.5, 0.8, 0.6, 0.7]
    scripted(monkeypatch, [0.5, 0.8])
    best = linear()
    run(best, tmp_path / "best", **{**settings, "epochs": 2})
    assert_equal_weights(model.get_weights(), best.get_weights())


def test_equal_accuracies_count_as_not_risen(tmp_path: Path, monkeypatch) -> None:
    scripted(monkeypatch, [0.5, 1.0, 1.0, 1.0])
    assert len(run(linear(), tmp_path, epochs=9, patience=2)) == 4


@pytest.mark.slow
def test_without_patience_the_last_weights_stay(tmp_path: Path, monkeypatch) -> None:
    scripted(monkeypatch, [0.9, 0.1])
    model, free = linear(), linear()
    run(model, tmp_path / "a", epochs=2)
    monkeypatch.undo()
    run(free, tmp_path / "b", epochs=2)
    assert_equal_weights(model.get_weights(), free.get_weights())


def test_tensorboard_gets_the_history(tmp_path: Path) -> None:
    (row,) = run(linear(), tmp_path, epochs=1, tensorboard=tmp_path / "events")
    (file,) = (tmp_path / "events").glob("events.out.tfevents*")
    values = [v for e in tf.compat.v1.train.summary_iterator(str(file)) for v in e.summary.value]
    found = {value.tag: float(tf.make_ndarray(value.tensor)) for value in values}
    assert found["val_accuracy"] == pytest.approx(row.val_score)
    losses = {"loss", "val_loss", "accuracy", "val_accuracy"}
    assert set(found) == losses | {"learning_rate", "seconds"}
    assert {value.metadata.plugin_data.plugin_name for value in values} == {"scalars"}


def early_exit() -> keras.Model:
    """An exit behind the first layer, the image again, and an exit at the end."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1))
    x = L.Dense(8, activation="relu")(L.Flatten()(inputs))
    return keras.Model(inputs, [L.Dense(2)(x), L.Dense(16)(x), L.Dense(2)(L.ReLU()(x))])


@pytest.mark.slow
def test_each_output_has_its_loss_and_its_weight(tmp_path: Path) -> None:
    model, weights = early_exit(), (0.5, 2.0, 1.0)
    (row,) = run(model, tmp_path, epochs=1, loss_weights=weights)
    split = dataset().validation
    images = split.x.astype(np.float32) / np.float32(255)
    first, again, last = (output.numpy() for output in model(images))
    losses = [
        keras.losses.sparse_categorical_crossentropy(split.y, first, from_logits=True),
        np.square(again - images.reshape(len(images), -1)).mean(axis=1),
        keras.losses.sparse_categorical_crossentropy(split.y, last, from_logits=True),
    ]
    expected = sum(w * np.mean(loss) for w, loss in zip(weights, losses, strict=True))
    assert row.val_loss == pytest.approx(expected, rel=1e-5)
    assert (row.metric, row.val_score) == ("accuracy", np.mean(last.argmax(axis=1) == split.y))


@pytest.mark.slow
def test_a_weight_of_0_leaves_an_output_untrained(tmp_path: Path) -> None:
    model = early_exit()
    run(model, tmp_path, epochs=2, loss_weights=(1.0, 0.0, 1.0))
    (again,) = [layer for layer in model.layers if getattr(layer, "units", 0) == 16]
    fresh = early_exit()
    (untouched,) = [layer for layer in fresh.layers if getattr(layer, "units", 0) == 16]
    assert_equal_weights(again.get_weights(), untouched.get_weights())


@pytest.mark.slow
def test_an_autoencoder_is_judged_by_its_psnr(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, L.Reshape((4, 4, 1))(L.Dense(16)(L.Flatten()(inputs))))
    history = run(model, tmp_path, epochs=3)
    images = dataset().validation.x.astype(np.float32) / np.float32(255)
    error = np.mean(np.square(model(images).numpy().astype(np.float64) - images))
    assert history[-1].val_loss == pytest.approx(error)
    assert history[-1].val_score == pytest.approx(-10 * np.log10(error))
    assert history[-1].metric == "psnr_db"
    header = (tmp_path / "history.csv").read_text().splitlines()[0]
    assert header == "epoch,loss,psnr_db,val_loss,val_psnr_db,learning_rate,seconds"
    assert history[-1].val_loss < history[0].val_loss


def test_psnr_while_training_is_that_of_the_test_whatever_pixels_become() -> None:
    rng = np.random.default_rng(0)
    images, outputs = rng.uniform(0, 255, (2, 1, 4, 4, 1))
    model = keras.Sequential([L.Dense(1, input_shape=(4, 4, 1))])
    (objective,) = objectives_of(model, ["reconstruction"], span=255.0)
    _, part = objective.measure(images, outputs)
    assert objective.to_score(part) == pytest.approx(psnr(outputs, images, span=255.0)[0])


@pytest.mark.slow
def test_a_denoiser_is_judged_by_clean_images(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, L.Reshape((4, 4, 1))(L.Dense(16)(L.Flatten()(inputs))))
    given = dataset()
    parts = {
        name: dataclasses.replace(split, clean=np.asarray(255 - split.x))
        for name in ("train", "validation")
        for split in [getattr(given, name)]
    }
    data = dataclasses.replace(given, **parts)
    history = train_epochs(
        model,
        model,
        data,
        dataclasses.replace(SETTINGS, epochs=6),
        folder=tmp_path,
        resume=False,
        progress=Progress(quiet=True),
    )
    images = data.reals(data.validation.x)
    error = np.mean(np.square(model(images).numpy() - data.reals(data.validation.wanted)))
    assert history[-1].val_loss == pytest.approx(error, rel=1e-5)
    assert history[-1].loss < history[0].loss


def test_exits_of_classes_learn_a_teacher_of_noisy_images(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    flat = L.Flatten()(inputs := keras.Input((4, 4, 1)))
    model = keras.Model(inputs, [L.Dense(2, name="exit")(flat), L.Dense(2, name="last")(flat)])
    given = dataset()
    train = dataclasses.replace(given.train, clean=np.asarray(255 - given.train.x))
    history = train_epochs(
        *(model, model, dataclasses.replace(given, train=train)),
        dataclasses.replace(SETTINGS, epochs=1, distill=0.5),
        teacher=linear(),
        folder=tmp_path,
        resume=False,
        progress=Progress(quiet=True),
    )
    assert len(history) == 1


@pytest.mark.slow
def test_losses_of_an_autoencoder_add_up_to_what_its_bound_is_short_of(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build("vae", (4, 4, 1), 2, units=8, latent=2)
    data = dataclasses.replace(dataset(), elbo=True)
    history = train_epochs(
        model,
        model,
        data,
        SETTINGS,
        folder=tmp_path,
        resume=False,
        progress=Progress(quiet=True),
    )
    images = data.reals(data.validation.x)
    mean, variance, logits = (output.numpy() for output in model(images))
    divergence = (mean**2 + np.exp(variance) - 1 - variance).sum(axis=1) / 2
    crossed = tf.nn.sigmoid_cross_entropy_with_logits(labels=images, logits=logits)
    expected = divergence.mean() + crossed.numpy().sum(axis=(1, 2, 3)).mean()
    assert history[-1].val_loss == pytest.approx(expected, rel=1e-5)
    assert (history[-1].metric, history[-1].val_score) == ("elbo", -history[-1].val_loss)
    assert history[-1].score == pytest.approx(-history[-1].loss, rel=1e-5)
    assert history[-1].loss < history[0].loss


@pytest.mark.parametrize("broken", [0.0, np.nan, -1.0])
def test_learned_step_that_falls_stops_training_with_the_last_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: float
) -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((4, 4, 1))
    layer = L.Dense(2, name="dense")
    layer.build((None, 16))
    twin = lsq.wrap(layer, QuantSpec(bits=4), lsq.LsqOptions())
    model = keras.Model(inputs, twin(L.Flatten()(x)))
    before = model.get_weights()
    trained = module._epoch

    def epoch(model: keras.Model, *given, **named) -> Epoch:
        row = trained(model, *given, **named)
        twin.kernel_scale.assign(twin.kernel_scale * np.float32(broken))
        return row

    monkeypatch.setattr(module, "_epoch", epoch)
    with pytest.raises(TrainingError, match=r"steps fell to 0, or are NaN, in epoch 1: dense/ker"):
        run(model, tmp_path)
    assert_equal_weights(model.get_weights(), before)


def few_bits(*, clustered: bool = False) -> keras.Model:
    """A learned step, and a layer whose gradients are rounded with noise; equal each time."""
    keras.utils.set_random_seed(0)
    layers = [L.Dense(6, name="lsq"), L.Dense(2, name="dorefa")]
    for layer, inputs in zip(layers, (16, 6), strict=True):
        layer.build((None, inputs))
    inputs = keras.Input((4, 4, 1))
    x = lsq.wrap(layers[0], QuantSpec(bits=2), lsq.LsqOptions())(L.Flatten()(inputs))
    options = dorefa.DorefaOptions(gradient_bits=4)
    model = keras.Model(inputs, dorefa.wrap(layers[1], QuantSpec(bits=4), options)(x))
    for layer in (model.get_layer(name) for name in ("lsq", "dorefa") if clustered):
        layer.raw_kernel.assign(np.round(layer.raw_kernel.numpy() * 4) / 4)  # some of it at 0
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"freeze_oscillations": True}, {"keep_clusters": True, "keep_zeros": True}],
    ids=lambda options: "-".join(options),
)
def test_what_few_bits_add_to_training_goes_on_where_it_was(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    """Steps' own averages, gradients that wait, codes that waver, and the noise of gradients."""
    clustered = "keep_clusters" in options
    options = {"accumulate": 3, **options}
    once = few_bits(clustered=clustered)
    first = once.get_layer("lsq").raw_kernel.numpy()
    history = timeless(run(once, tmp_path / "once", **options))

    class KilledError(BaseException):
        """Stands for a kill: nothing catches it."""

    def killing(self: Progress, row: Epoch, epochs: int) -> None:
        if row.epoch == 2:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Progress, "epoch", killing)
        run(few_bits(clustered=clustered), tmp_path / "twice", **options)
    again = few_bits(clustered=clustered)
    assert timeless(run(again, tmp_path / "twice", resume=True, **options)) == history
    assert_equal_weights(again.get_weights(), once.get_weights())
    if clustered:
        values, places = np.unique(first, return_inverse=True)
        last = again.get_layer("lsq").raw_kernel.numpy().reshape(-1)
        held = [np.unique(last[places.reshape(-1) == k]) for k in range(len(values))]
        assert all(len(group) == 1 for group in held)
        assert [0 in group for group in held] == [value == 0 for value in values]
        assert 0 in values and not np.array_equal(values, np.ravel(held))

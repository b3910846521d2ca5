"""Trains small nets as one, mirrored or multiworker, and leaves their weights: a process of tests.

python replicas_script.py FOLDER one|mirrored|WORKER HOST:PORT,HOST:PORT
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_quant.jobs import train as training
from keras_quant.jobs.replicas import start_replicas
from keras_quant.jobs.train_settings import TrainSettings
from keras_quant.runs.history import FILE_NAME
from keras_quant.runs.progress import Progress
from keras_quant.schemes.bits import freed, scheme_from_bits
from keras_quant.schemes.file import load_scheme
from keras_quant.tf import keras, tf
from keras_quant.training.optimizer_settings import OptimizerSettings

FILE = Path(__file__)
# Plain steps: Adam's divide by the gradient, however small, so that roundings would grow.
SGD = OptimizerSettings(name="sgd", learning_rate=0.02, warmup_epochs=0.5)
CASES: dict[str, dict[str, Any]] = {
    "float": {"scheme": load_scheme("float")},
    "lsq": {"method": "lsq", "freeze_oscillations": True, "distill": 0.5, "parent": "float"},
    "clusters": {
        "method": "lsq",
        "model": f"{FILE}:clustered",
        "keep_clusters": True,
        "keep_zeros": True,
    },
    "bf16": {"method": "lsq", "precision": "bf16"},
    "dropout": {"model": f"{FILE}:dropping"},
    "tfmot": {"method": "tfmot", "scheme": freed(scheme_from_bits("8"))},
}


def net(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A convolution with a batch norm, and a head."""
    return _net(input_shape, num_classes, dropout=0.0)


def clustered(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """That net, with kernels of a few values, of which one is 0."""
    model = _net(input_shape, num_classes, dropout=0.0)
    for name in ("conv", "logits"):
        kernel = model.get_layer(name).kernel
        kernel.assign(np.round(kernel.numpy() * 8) / 8)
    return model


def dropping(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """That net, with a layer that draws at random."""
    return _net(input_shape, num_classes, dropout=0.5)


def _net(input_shape: tuple[int, int, int], num_classes: int, *, dropout: float) -> keras.Model:
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(6, 3, strides=2, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten(name="flat")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return keras.Model(image, keras.layers.Dense(num_classes, name="logits")(x), name="net")


def main(folder: Path, cases: str, how: str, workers: str = "") -> None:
    """Trains some cases; what each ends with is in CASE.npz of a folder of the process."""
    if how == "mirrored":
        (cpu,) = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    strategy: dict[str, Any] = {"strategy": how} if how == "mirrored" else {}
    if how.isdigit():
        strategy = {
            "strategy": "multiworker",
            "workers": tuple(workers.split(",")),
            "worker": int(how),
        }
    started: list[Any] = []

    def start_once(settings: TrainSettings, dataset: Any) -> Any:
        started.extend([] if started else [start_replicas(settings, dataset)])
        return started[0]

    training.start_replicas = start_once  # type: ignore[attr-defined]
    for name in cases.split(","):
        _train(name, CASES[name], strategy, folder, how)
    print(f"replicas: {started[0].count if started[0] else 1}")


def _train(
    name: str, case: dict[str, Any], strategy: dict[str, Any], folder: Path, how: str
) -> None:
    own = folder / how
    # All processes start from the same float weights: those of the training of one.
    parent = {"parent": folder / "one" / "float"} if "parent" in case else {}
    settings = TrainSettings(
        **{"scheme": scheme_from_bits("4"), "model": f"{FILE}:net", "optimizer": SGD}
        | {"epochs": 2, "batch_size": 200, "augment": False}
        | case
        | parent
        | strategy
    )
    seen: list[list[np.ndarray]] = []
    train_epochs = training.train_epochs

    def watched(model: Any, *given: Any, **named: Any) -> Any:
        history = train_epochs(model, *given, **named)
        seen.append(model.get_weights())
        return history

    training.train_epochs = watched  # type: ignore[assignment]
    try:
        training.train(settings, own / name, progress=Progress(quiet=True))
    finally:
        training.train_epochs = train_epochs  # type: ignore[assignment]
    own.mkdir(exist_ok=True, parents=True)
    np.savez(own / f"{name}.npz", *seen[0], allow_pickle=False)
    history = own / name / FILE_NAME
    if history.exists():
        (own / f"{name}.csv").write_text(history.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

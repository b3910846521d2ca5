"""Which files are damaged, how, and which commands then read them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from tests.fuzz.mutators.archives import damage_zip
from tests.fuzz.mutators.arrays import damage_npy
from tests.fuzz.mutators.graphs import damage_onnx, damage_tflite
from tests.fuzz.mutators.hdf5 import damage_hdf5
from tests.fuzz.mutators.places import Damage, damage_images, of_file
from tests.fuzz.mutators.raw import damage_bytes
from tests.fuzz.mutators.sources import damage_source
from tests.fuzz.mutators.trees import damage_json, damage_yaml

_RUN = "models/run"
_DATA = ("--dataset", "data.npz")
_NET = ("--model", "net.py:build")
_QUICKLY = ("--epochs", "1", "--name", "made")
_RESUME = (
    *("train", *_NET, *_DATA, "--bits", "4", "--epochs", "2", "--name", "stopped"),
    "--resume",
)
_QUANTIZE = ("quantize", "models/float", "--name", "made")
_TO_ALL = ("--to", "tflite,onnx,tensorrt", "--images", "8", "--overwrite")
_EXPORT = ("export", "models/run", *_TO_ALL)

LIGHT = 3
_HEAVY = ("train", "quantize")

_REPORT = ("report", "models", "--out", "out")
_PICTURE = ("--out", "out.png")
SENSITIVITY = ("--bits", "2,4", "--images", "0", "--probes", "2")

Words = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        path: what is damaged, in the folder of the undamaged files.
        damage: how.
        commands: the words behind kq, by a name for them.
        succeeds: names of those that end with 0 where nothing is damaged; None for all.
    """

    path: str
    damage: Damage
    commands: Mapping[str, Words]
    succeeds: tuple[str, ...] | None = None


def _model(path: str) -> dict[str, Words]:
    """What is done with a Keras file that has no quantizers."""
    return {
        "evaluate": ("evaluate", path, *_DATA),
        "inspect": ("inspect", path),
        "quantize": ("quantize", path, *_DATA, "--name", "made"),
        "export": ("export", path, *_DATA, "--out", "out", "--images", "8"),
        "view": ("view", path, "--no-browser"),
    }


def _exported(path: str, *more: str) -> dict[str, Words]:
    """What is done with a file of a runtime."""
    commands = {
        "evaluate": ("evaluate", path, *_DATA),
        "diagnose": ("diagnose", path, *_DATA, "--images", "8"),
        "check": ("check", path),
        "view": ("view", path, "--no-browser"),
    }
    return {name: commands[name] for name in ("evaluate", "diagnose", *more)}


_TENSORRT = f"{_RUN}/export/tensorrt"

KINDS: dict[str, Kind] = {
    "keras2": Kind(
        path="models/float/model.keras",
        damage=of_file(damage_zip),
        commands=_model("models/float/model.keras"),
    ),
    "quantized keras2": Kind(
        path=f"{_RUN}/model.keras",
        damage=of_file(damage_zip),
        commands={
            "evaluate": ("evaluate", _RUN),
            "inspect": ("inspect", f"{_RUN}/model.keras"),
            "export": _EXPORT,
        },
    ),
    "keras3": Kind(
        path="keras3.keras", damage=of_file(damage_zip), commands=_model("keras3.keras")
    ),
    "h5": Kind(path="keras2.h5", damage=of_file(damage_hdf5), commands=_model("keras2.h5")),
    "keras3 h5": Kind(path="keras3.h5", damage=of_file(damage_hdf5), commands=_model("keras3.h5")),
    "weights h5": Kind(
        path="keras2.weights.h5",
        damage=of_file(damage_hdf5),
        commands={
            "evaluate": ("evaluate", "keras2.weights.h5", *_DATA),
            "inspect": ("inspect", "keras2.weights.h5"),
        },
        succeeds=(),
    ),
    "engine": Kind(
        path="layers.json",
        damage=of_file(damage_json),
        commands={"engine": ("engine", "layers.json", "--profile", "profile.json")},
    ),
    "engine profile": Kind(
        path="profile.json",
        damage=of_file(damage_json),
        commands={"engine": ("engine", "layers.json", "--profile", "profile.json")},
    ),
    "scheme": Kind(
        path="scheme.yaml",
        damage=of_file(damage_yaml),
        commands={
            "train": ("train", *_NET, *_DATA, "--scheme", "scheme.yaml", *_QUICKLY),
            "quantize": (*_QUANTIZE, "--scheme", "scheme.yaml"),
            "inspect": ("inspect", "cnn", "--scheme", "scheme.yaml"),
        },
    ),
    "run": Kind(
        path=f"{_RUN}/run.json",
        damage=of_file(damage_json),
        commands={
            "evaluate": ("evaluate", _RUN),
            "export": _EXPORT,
            "inspect": ("inspect", _RUN),
            "view": ("view", _RUN, "--no-browser"),
            "list": ("runs", "list", "models"),
            "report": _REPORT,
            "overwrite": (
                *("train", *_NET, *_DATA, "--bits", "4", "--epochs", "1", "--name", "run"),
                "--overwrite",
            ),
        },
    ),
    "float run": Kind(
        path="models/float/run.json",
        damage=of_file(damage_json),
        commands={
            "quantize": _QUANTIZE,
            "train from": ("train", *_NET, *_DATA, "--from", "models/float", *_QUICKLY),
        },
    ),
    "stopped run": Kind(
        path="models/stopped/run.json",
        damage=of_file(damage_json),
        commands={"resume": _RESUME},
    ),
    "checkpoint": Kind(
        path="models/stopped/checkpoint.npz",
        damage=of_file(damage_zip),
        commands={"resume": _RESUME},
    ),
    "history": Kind(
        path="models/stopped/history.csv",
        damage=of_file(damage_bytes),
        commands={"resume": _RESUME},
    ),
    "whole history": Kind(
        path=f"{_RUN}/history.csv",
        damage=of_file(damage_bytes),
        commands={"report": _REPORT, "list": ("runs", "list", "models")},
    ),
    "own scheme": Kind(
        path="models/stopped/scheme.yaml",
        damage=of_file(damage_yaml),
        commands={"resume": _RESUME},
    ),
    "own statistics": Kind(
        path="models/stopped/statistics.npz",
        damage=of_file(damage_zip),
        commands={"resume": _RESUME},
    ),
    "statistics": Kind(
        path="models/quantized/statistics.npz",
        damage=of_file(damage_zip),
        commands={"quantize": (*_QUANTIZE, "--statistics", "models/quantized/statistics.npz")},
    ),
    "sensitivity": Kind(
        path="models/float/sensitivity.json",
        damage=of_file(damage_json),
        commands={
            "search": ("search", "models/float", "--budget", "size=0.5"),
            "resume": ("sensitivity", "models/float", *SENSITIVITY, "--resume"),
            "plot": ("plot", "sensitivity", "models/float", *_PICTURE),
            "report": _REPORT,
        },
    ),
    "explained": Kind(
        path=f"{_RUN}/explain.npz",
        damage=of_file(damage_zip),
        commands={
            "histograms": ("plot", "histograms", _RUN, *_PICTURE),
            "confusion": ("plot", "confusion", _RUN, *_PICTURE),
            "maps": ("plot", "maps", _RUN, *_PICTURE),
            "report": _REPORT,
        },
    ),
    "parity": Kind(
        path=f"{_RUN}/export/parity.json",
        damage=of_file(damage_json),
        commands={
            "evaluate": ("evaluate", _RUN),
            "export": ("export", _RUN, "--images", "8"),
            "overwrite": _EXPORT,
            "inspect": ("inspect", _RUN),
            "report": _REPORT,
        },
    ),
    "npz": Kind(
        path="data.npz",
        damage=of_file(damage_zip),
        commands={
            "train": ("train", *_NET, *_DATA, "--bits", "4", *_QUICKLY),
            "quantize": (*_QUANTIZE, *_DATA),
            "evaluate": ("evaluate", f"{_RUN}/model.keras", *_DATA),
            "export": (*_EXPORT, *_DATA),
        },
    ),
    "named npz": Kind(
        path="named/mnist.npz",
        damage=of_file(damage_zip),
        commands={
            "datasets": ("datasets",),
            "evaluate": ("evaluate", f"{_RUN}/export/model.tflite", "--dataset", "mnist"),
            "train": ("train", *_NET, "--dataset", "mnist", "--bits", "4", *_QUICKLY),
        },
        succeeds=("datasets", "train"),
    ),
    "npy": Kind(
        path="images.npy",
        damage=of_file(damage_npy),
        commands={
            "quantize": (*_QUANTIZE, "--dataset", "images.npy"),
            "evaluate": ("evaluate", _RUN, "--dataset", "images.npy"),
        },
    ),
    "images": Kind(
        path="photos",
        damage=damage_images,
        commands={
            "train": ("train", *_NET, "--dataset", "photos", "--bits", "4", *_QUICKLY),
            "quantize": (*_QUANTIZE, "--dataset", "photos"),
            "evaluate": ("evaluate", _RUN, "--dataset", "photos"),
        },
    ),
    "concat": Kind(
        path="staged/concat.json",
        damage=of_file(damage_json),
        commands={
            "run": (
                *("anytime", "run", "staged", "left.npz", "--view", "right.npz", "--images", "5"),
                *("--aggregate", "concat", "--deadline-ms", "1e4"),
            ),
            "serve": ("anytime", "serve", "staged", "--listen", "127.0.0.1:0", "--seconds", "0.1"),
        },
    ),
    "source": Kind(
        path="net.py",
        damage=of_file(damage_source),
        commands={
            "train": ("train", *_NET, *_DATA, "--bits", "4", *_QUICKLY),
            "quantize": (
                *("quantize", "net.py:build", "--from", "models/float", *_DATA),
                *("--name", "made"),
            ),
        },
    ),
    "tflite": Kind(
        path=f"{_RUN}/export/model.tflite",
        damage=of_file(damage_tflite),
        commands={
            **_exported(f"{_RUN}/export/model.tflite", "view"),
            "evaluate run": ("evaluate", _RUN),
            "inspect": ("inspect", _RUN),
        },
    ),
    "foreign tflite": Kind(
        path=f"{_RUN}/export/model.float.tflite",
        damage=of_file(damage_tflite),
        commands=_exported(f"{_RUN}/export/model.float.tflite"),
    ),
    "onnx": Kind(
        path=f"{_RUN}/export/model.onnx",
        damage=of_file(damage_onnx),
        commands=_exported(f"{_RUN}/export/model.onnx", "check", "view"),
        succeeds=("evaluate", "diagnose", "view"),
    ),
    "foreign onnx": Kind(
        path=f"{_RUN}/export/model.float.onnx",
        damage=of_file(damage_onnx),
        commands=_exported(f"{_RUN}/export/model.float.onnx", "check"),
    ),
    "bundle model": Kind(
        path=f"{_TENSORRT}/model.onnx",
        damage=of_file(damage_onnx),
        commands=_exported(f"{_TENSORRT}/model.onnx", "check"),
    ),
    "bundle manifest": Kind(
        path=f"{_TENSORRT}/manifest.json",
        damage=of_file(damage_json),
        commands={"export": _EXPORT, "evaluate": ("evaluate", _RUN)},
    ),
    "bundle sample": Kind(
        path=f"{_TENSORRT}/samples/image.npy",
        damage=of_file(damage_npy),
        commands={"export": _EXPORT},
    ),
    "graph": Kind(
        path=f"{_RUN}/export/model.kqgraph",
        damage=of_file(damage_zip),
        commands={
            "inspect": ("inspect", f"{_RUN}/export/model.kqgraph"),
            "graph": ("inspect", f"{_RUN}/export/model.kqgraph", "--graph"),
            "run": ("inspect", _RUN),
        },
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class Input:
    """One command, with a file that was damaged or was not.

    Attributes:
        kind: of KINDS.
        command: of the kind's commands.
        seed: of the damage; None for none.
    """

    kind: str
    command: str
    seed: int | None = None

    def __str__(self) -> str:
        return f"{self.kind}/{self.command}/{self.seed}"

    @property
    def words(self) -> Words:
        """Behind kq."""
        return KINDS[self.kind].commands[self.command]

    @property
    def succeeds(self) -> bool:
        """Whether it ends with exit code 0 where nothing is damaged."""
        succeeds = KINDS[self.kind].succeeds
        return succeeds is None or self.command in succeeds

    @property
    def chance(self) -> Random:
        """What the damage depends on."""
        return Random(str(self))


def undamaged() -> list[Input]:
    """Each command on what is whole."""
    return [Input(kind, command) for kind, known in KINDS.items() for command in known.commands]


def damaged(count: int) -> list[Input]:
    """So many inputs, of the first seeds: a command that trains or calibrates takes as long as
    LIGHT others, so that these get as many seeds more."""
    inputs: list[Input] = []
    for turn in itertools.count():
        for one in undamaged():
            seeds = LIGHT if one.words[0] not in _HEAVY else 1
            inputs += [Input(one.kind, one.command, turn * seeds + k) for k in range(seeds)]
            if len(inputs) >= count:
                return inputs[:count]
    raise AssertionError


def named(text: str) -> Input:
    """The input that is called KIND/COMMAND/SEED."""
    kind, command, seed = text.split("/")
    return Input(kind, command, None if seed == "None" else int(seed))

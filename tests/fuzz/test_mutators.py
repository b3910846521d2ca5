"""Damage changes a file, as each format's objects allow it, and the same each time."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from random import Random

import h5py
import numpy as np
import onnx
import pytest
import yaml
from google.protobuf.message import DecodeError

from keras_quant.cli.main import COMMANDS
from keras_quant.emit.onnx_x86.emit import emit_onnx_x86
from keras_quant.emit.tflite.emit import emit_tflite
from keras_quant.graph.passes.realize import realize
from tests.emit.random_graphs import small_classifier
from tests.fuzz.kinds import KINDS, Input, damaged, named, undamaged
from tests.fuzz.mutators.archives import damage_zip
from tests.fuzz.mutators.arrays import damage_npy
from tests.fuzz.mutators.graphs import damage_onnx, damage_tflite
from tests.fuzz.mutators.hdf5 import damage_hdf5
from tests.fuzz.mutators.raw import Mutator, damage_bytes
from tests.fuzz.mutators.sources import SOURCE, damage_source
from tests.fuzz.mutators.trees import damage_json, damage_yaml
from tests.fuzz.originals import SCHEME

SEEDS = range(60)


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    return stream.getvalue()


def archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Functional", "config": [1, "a"]}))
        file.writestr("x_train.npy", array())
        file.writestr("model.weights.h5", hdf5())
    return stream.getvalue()


def hdf5() -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential"})
        file["layers/dense/0"] = np.ones((3, 4), np.float32)
    return stream.getvalue()


ORIGINALS: dict[Mutator, bytes] = {
    damage_bytes: array(),
    damage_json: b'{"a": [1, 2, {"b": null}], "c": "text"}',
    damage_yaml: SCHEME.encode(),
    damage_npy: array(),
    damage_zip: archive(),
    damage_hdf5: hdf5(),
    damage_source: SOURCE.encode(),
}


@pytest.mark.parametrize("mutator", ORIGINALS, ids=lambda mutator: mutator.__name__)
def test_damage_is_the_same_for_a_seed_and_others_for_others(mutator: Mutator) -> None:
    original = ORIGINALS[mutator]
    made = [mutator(original, Random(seed)) for seed in SEEDS]
    assert made == [mutator(original, Random(seed)) for seed in SEEDS]
    assert len(set(made) - {original}) > len(SEEDS) // 3


def test_fields_of_graphs_are_changed_and_most_files_can_still_be_parsed() -> None:
    graph = realize(small_classifier().graph()).graph
    for mutator, content in (
        (damage_tflite, emit_tflite(graph)),
        (damage_onnx, emit_onnx_x86(graph)),
    ):
        made = [mutator(content, Random(seed)) for seed in SEEDS]
        assert made == [mutator(content, Random(seed)) for seed in SEEDS]
        assert len(set(made) - {content}) > len(SEEDS) // 2
    assert sum(map(can_be_parsed, made)) > len(SEEDS) * 3 // 4


def can_be_parsed(content: bytes) -> bool:
    try:
        onnx.load_model_from_string(content)
    except DecodeError:
        return False
    return True


def test_most_damage_to_trees_leaves_something_that_can_be_parsed() -> None:
    made = [damage_yaml(SCHEME.encode(), Random(seed)) for seed in SEEDS]
    assert sum(isinstance(load(text), dict) for text in made) > len(SEEDS) // 2


def load(text: bytes) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def test_inputs_are_found_by_their_names() -> None:
    inputs = damaged(3 * len(undamaged()) + 5)
    assert len(set(inputs)) == 3 * len(undamaged()) + 5
    assert [named(str(one)) for one in inputs] == inputs
    assert [named(str(one)) for one in undamaged()] == undamaged()
    assert str(Input("npz", "train", 7)) == "npz/train/7"


def test_every_command_is_tried_or_named_here() -> None:
    tried = {words[0] for kind in KINDS.values() for words in kind.commands.values()}
    reads_no_files = {"boards", "models", "doctor"}
    not_tried = {"bench", "compare", "plot", "run", "sweep", "import-results"}
    not_tried |= {"anytime", "explain", "search", "sensitivity"}
    assert tried | reads_no_files | not_tried == set(COMMANDS)


def test_a_place_is_damaged_as_a_whole_now_and_then(tmp_path: Path) -> None:
    kinds = set()
    for seed in range(200):
        path = tmp_path / str(seed)
        path.write_bytes(array())
        KINDS["npy"].damage(path, Random(seed))
        kinds.add("folder" if path.is_dir() else "link" if path.is_symlink() else path.exists())
    assert kinds == {"folder", "link", True, False}

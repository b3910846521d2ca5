"""kq anytime concat, and what uses it, on stages of random weights that need no TensorFlow."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_quant.anytime.server import StageServer
from keras_quant.data import load_dataset
from keras_quant.jobs.serve_stages import ServeSettings, stage_server
from keras_quant.runs import concat
from keras_quant.runs.progress import Progress
from tests.anytime.asked import kq, parsed
from tests.anytime.served import answering
from tests.staged_runs import make_staged_run

THINGS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as two cameras see them, one the upper and one the lower half; and others."""
    folder = tmp_path_factory.mktemp("views")
    digits = load_dataset("digits").train
    # Random weights tell more of larger numbers than of those that pixels become.
    x, y = digits.x[:THINGS].astype(np.float32) / 2, digits.y[:THINGS]
    upper, lower = x.copy(), x.copy()
    upper[:, 5:] = 0
    lower[:, :3] = 0
    for name, images, labels in (
        ("upper", upper, y),
        ("lower", lower, y),
        ("no4", x, np.where(y == 4, 5, y)),
        ("three", x, y % 3),
    ):
        parts = {"train": slice(150), "test": slice(150, None)}  # all parts are read, in this order
        arrays = {f"x_{part}": images[rows] for part, rows in parts.items()}
        arrays |= {f"y_{part}": labels[rows] for part, rows in parts.items()}
        names = np.arange(labels.max() + 1).astype(str)
        np.savez(folder / f"{name}.npz", class_names=names, **arrays)
    np.savez(folder / "few.npz", x_train=x[:3])
    np.savez(folder / "unlabelled.npz", x_train=x)
    np.savez(folder / "wide.npz", x_train=np.zeros((THINGS, 8, 9, 1), np.float32))
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> Any:
    """A run called run that has learned, and what was printed of it."""
    run = make_staged_run(folder / "run", seed=3)
    upper, lower = str(folder / "upper.npz"), str(folder / "lower.npz")
    return parsed(kq("concat", str(run), upper, "--view", lower, "--budget", "0.8", "--json"))


def answered(folder: Path, *words: str, run: str = "run") -> Any:
    views = (str(folder / "upper.npz"), "--view", str(folder / "lower.npz"))
    deadline = ("--deadline-ms", "1e4", "--images", "30", "--json")
    return parsed(kq("run", str(folder / run), *views, *deadline, *words))


def test_layers_are_learned_and_judged_on_other_things(folder: Path, record: Any) -> None:
    assert json.loads((folder / "run/concat.json").read_text()) == record
    assert (record["learned"], record["validation"]["images"], record["test"]["images"]) == (
        120,
        40,
        40,
    )
    assert (record["views"], record["classes"]) == (2, 10)
    # Both views of both stages, of 1000 multiply-accumulates each.
    assert [one["cost"] for one in record["exits"]] == [2000, 4000]
    assert record["validation"]["mean_cost"] <= 0.8 * 4000
    last = record["exits"][-1]
    assert set(last["together"]) == {"max", "average", "concat"}
    # Of random weights nobody knows the classes but who learned what their scores mean.
    others = (*last["views"], last["together"]["max"], last["together"]["average"])
    assert last["together"]["concat"] > 0.25 > max(others)


def test_answers_are_those_of_the_layers_and_end_by_their_thresholds(
    folder: Path, record: Any
) -> None:
    done = answered(folder, "--aggregate", "concat")
    assert done["thresholds"] == record["thresholds"] and done["views"] == 2
    assert {one["reason"] for one in done["answers"]} <= {"sure", "last"}
    whole = answered(folder, "--aggregate", "concat", "--no-thresholds")
    assert {one["exit"] for one in whole["answers"]} == {1} and whole["thresholds"] is None
    alone = answered(folder, "--no-thresholds")
    assert whole["accuracy"] > alone["accuracy"]


@pytest.fixture(scope="module")
def server(folder: Path, record: Any) -> Iterator[StageServer]:
    settings = ServeSettings(listen="127.0.0.1:0")
    with answering(stage_server(folder / "run", settings, progress=Progress(quiet=True))) as made:
        yield made


def test_the_next_machine_answers_as_this_one_to_the_last_bit(
    folder: Path, server: StageServer
) -> None:
    words = ("--aggregate", "concat", "--no-thresholds")
    here = answered(folder, *words)
    there = answered(folder, *words, "--next", str(server.address))
    assert [one["logits"] for one in there["answers"]] == [one["logits"] for one in here["answers"]]
    assert {one["exit"] for one in there["answers"]} == {1}


def test_a_machine_that_learned_otherwise_is_refused(folder: Path, server: StageServer) -> None:
    other = shutil.copytree(folder / "run", folder / "other")
    content = json.loads((other / concat.FILE_NAME).read_text())
    content["layers"][1]["bias"][3] += 0.5
    (other / concat.FILE_NAME).write_text(json.dumps(content))
    words = ("--view", str(folder / "lower.npz"), "--aggregate", "concat", "--deadline-ms", "1e4")
    where = (str(folder / "upper.npz"), "--next", str(server.address))
    result = kq("run", str(other), *where, *words)
    assert result.exit_code == 1 and "asks for concat with other layers" in result.stderr


@pytest.mark.slow
def test_a_file_of_other_stages_is_not_served_and_that_is_told(folder: Path, record: Any) -> None:
    other = make_staged_run(folder / "another", seed=1)
    shutil.copy(folder / "run" / concat.FILE_NAME, other)
    result = kq("serve", str(other), "--listen", "127.0.0.1:0", "--seconds", "0.1")
    assert result.exit_code == 0 and "was learned for other stages (tflite)" in result.stderr
    assert "Who asks for concat is refused; all others are answered" in result.stderr
    words = ("--aggregate", "concat", "--deadline-ms", "5", "--view", "x")
    result = kq("run", str(other), str(folder / "upper.npz"), *words)
    assert result.exit_code == 1 and "Learn it again: kq anytime concat" in result.stderr


@pytest.mark.slow
def test_tables_set_views_alone_beside_all_together(folder: Path, record: Any) -> None:
    words = (str(folder / "upper.npz"), "--view", str(folder / "lower.npz"))
    shown = kq("concat", str(shutil.copytree(folder / "run", folder / "again")), *words)
    assert shown.exit_code == 0 and "wrote" in shown.stderr
    heading = next(line for line in shown.stdout.splitlines() if line.startswith("exit"))
    columns = ["exit", "answer", "view 1", "view 2", "max", "average", "concat", "threshold"]
    assert re.split("  +", heading) == columns
    assert "40 things that nothing was learned from; concat learned from 120" in shown.stdout


@pytest.mark.thinned(2)
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("concat", "RUN", "UPPER"), 2, "Missing option '--view'"),
        (("concat", "RUN", "digits", "--view", "UPPER"), 2, "digits: a dataset that is known by"),
        (("concat", "RUN", "UPPER", "--view", "digits+noise9"), 2, "digits+noise9: a dataset"),
        (("concat", "RUN", "UPPER", "--view", "FEW"), 1, "few.npz: has 3 images, and not 200"),
        (("concat", "RUN", "UPPER", "--view", "NO4"), 1, "of its labels are not those of"),
        (("concat", "RUN", "UPPER", "--view", "WIDE"), 1, "takes (8, 8, 1); images of"),
        (("concat", "RUN", "UPPER", "--view", "NOWHERE"), 1, "no such folder, and no .npz"),
        (("concat", "RUN", "UNLABELLED", "--view", "LOWER"), 1, "200 of its 200 images have no"),
        (("concat", "RUN", "THREE", "--view", "LOWER"), 1, "no label of the 10 classes"),
        (("concat", "RUN", "NO4", "--view", "UNLABELLED"), 1, "of class 4 there is none. Give"),
        (("concat", "RUN", "UPPER", *("--view", "LOWER") * 16), 2, "17 views are given; 16 are"),
        (("concat", "RUN", "UPPER", "--view", "LOWER", "--rule", "x"), 2, "--rule 'x' is not"),
        (("concat", "RUN", "UPPER", "--view", "LOWER", "--budget", "0.1"), 3, "is 2000 already"),
        (("concat", "NOWHERE", "UPPER", "--view", "LOWER"), 1, "no such run folder"),
        (("run", "RUN", "UPPER", "--aggregate", "concat"), 2, "for 2 views. Give --view 1 times"),
        (("run", "BARE", "UPPER", "--aggregate", "concat"), 1, "has no concat.json. Learn it: kq"),
        (("run", "RUN", "UPPER", "--aggregate", "concatt"), 2, "known are max, average, concat"),
    ],
)
def test_bad_input_is_told(
    folder: Path, record: Any, words: tuple[str, ...], code: int, message: str
) -> None:
    if not (folder / "bare").exists():
        make_staged_run(folder / "bare")
    names = ("UPPER", "LOWER", "FEW", "NO4", "THREE", "UNLABELLED", "WIDE")
    paths = {name: folder / f"{name.lower()}.npz" for name in names}
    paths |= {"RUN": folder / "run", "NOWHERE": folder / "nowhere", "BARE": folder / "bare"}
    before = (folder / "run" / concat.FILE_NAME).read_bytes()
    given = [str(paths.get(word, word)) for word in words]
    more = ("--deadline-ms", "1e4") if words[0] == "run" else ()
    result = kq(*given, *more)
    assert (result.exit_code, message in result.output) == (code, True), result.output
    assert (folder / "run" / concat.FILE_NAME).read_bytes() == before

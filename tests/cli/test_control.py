"""kq anytime simulate --save, and kq anytime control, on stages of random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from keras_quant.data import load_dataset
from tests.anytime.asked import kq, parsed
from tests.staged_runs import make_staged_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller of two runs beside it, by shares of activations that are not zero."""
    folder = tmp_path_factory.mktemp("controller")
    runs = [str(make_staged_run(folder / name, seed=seed)) for seed, name in enumerate("ab")]
    path = folder / "controller.json"
    words = ("--board", "nano", "--budget", "0.9", "--rule", "activity", "--fuse")
    result = kq("simulate", *runs, *words, "--save", str(path))
    assert result.exit_code == 0, result.output
    assert f"wrote {path}: kq anytime control {path} runs it" in result.stderr
    return path


@pytest.fixture
def controller(saved: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(saved.parent, tmp_path / "copy")) / saved.name


def test_what_was_simulated_is_what_runs(controller: Path) -> None:
    done = parsed(kq("control", str(controller), "--json"))
    said = done["simulated"]
    assert done["accuracy"] == pytest.approx(said["test_accuracy"])
    assert done["mean_cost"] == pytest.approx(said["mean_cost"])
    assert len(done["answers"]) == 359 and sum(done["shares"].values()) == pytest.approx(1)
    assert any(len(one["ran"]) > 1 for one in done["answers"])
    assert said["is_estimate"] and said["place"].startswith("ESTIMATE, Jetson Nano")
    assert [piece["run"] for piece in said["pieces"]] == ["a", "a", "b", "b"]


@pytest.fixture(scope="module")
def of_two_sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A controller of a net for all pixels of the digits and one for 9 in 16 of them."""
    folder = tmp_path_factory.mktemp("sizes")
    small = make_staged_run(folder / "small", seed=1, dataset="digits+6px", pixels=6)
    whole = make_staged_run(folder / "whole", seed=11)
    path = folder / "controller.json"
    words = ("--board", "nano", "--rule", "activity", "--save", str(path))
    result = kq("simulate", str(small), str(whole), *words)
    assert result.exit_code == 0, result.output
    return path


def test_what_was_simulated_of_two_sizes_is_what_runs(of_two_sizes: Path) -> None:
    done = parsed(kq("control", str(of_two_sizes), "--json"))
    said = done["simulated"]
    assert said["input_shape"] == [8, 8, 1] and said["dataset"] == "digits"
    assert done["accuracy"] == pytest.approx(said["test_accuracy"])
    assert done["mean_cost"] == pytest.approx(said["mean_cost"])
    assert {one["ran"][-1] for one in done["answers"]} == {"whole exit 1", "small", "whole"}


@pytest.mark.slow
def test_images_of_a_folder_are_averaged_as_those_of_the_runs(
    of_two_sizes: Path, tmp_path: Path
) -> None:
    ours = parsed(kq("control", str(of_two_sizes), "--images", "30", "--json"))["answers"]
    for place, image in enumerate(load_dataset("digits").test.x[:30]):
        Image.fromarray(image[..., 0]).save(tmp_path / f"{place:02}.png")
    theirs = parsed(kq("control", str(of_two_sizes), str(tmp_path), "--json"))["answers"]
    for one, other in zip(ours, theirs, strict=True):
        assert all(one[field] == other[field] for field in ("ran", "label", "ease"))


@pytest.mark.slow
def test_images_of_another_size_are_refused(of_two_sizes: Path, tmp_path: Path) -> None:
    images = tmp_path / "small.npy"
    np.save(images, load_dataset("digits+6px").test.x)
    result = kq("control", str(of_two_sizes), str(images))
    message = rf"{of_two_sizes}: takes (8, 8, 1); images of {images} are (6, 6, 1)"
    assert result.exit_code == 1 and message in result.stderr
    broken = json.loads(of_two_sizes.read_text()) | {"input_shape": [2, 2, 1]}
    other = of_two_sizes.with_name("broken.json")
    other.write_text(json.dumps(broken))
    np.save(images, np.zeros((1, 2, 2, 1), np.uint8))
    result = kq("control", str(other), str(images))
    assert result.exit_code == 1 and "2x2 pixels" in result.stderr, result.output


@pytest.mark.slow
def test_tables_show_both(controller: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    shown = kq("control", str(controller), "--images", "3", "--csv", str(table))
    assert "ESTIMATE, Jetson Nano" in shown.stdout and "measured, with messages" in shown.stdout
    assert "first 2 together" in shown.stdout and "test[2]" in shown.stdout
    assert table.read_text().splitlines()[0] == "image,class,ease,ran,ms,right or wrong"


def changed(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


RULE = {"after": [0], "thresholds": [0.5], "then": [None, 1]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "sure"}, "rule 'sure' is none of entropy, max, margin, zeros, activity"),
        ({"format": "tfl"}, "'tfl' is not known"),
        ({"first": 9}, "first: is 9; options are 0 to 4"),
        ({"rules": [{**RULE, "then": [None, 7]}]}, r"rules[0]: names options that are not there"),
        ({"rules": [{**RULE, "then": [None]}]}, "rules[0]: has 1 thresholds for 1 ways"),
        ({"rules": [{**RULE, "then": [None, 0]}]}, "rules[0]: goes on with an option that has run"),
        ({"options": [{"name": "x", "pieces": [8]}]}, "'x' is made of pieces that are not there"),
        ({"input_shape": [0, 8, 1]}, "input_shape: is [0, 8, 1]; sides are 1 or more"),
        ({"format_version": 9}, "written by a newer kq"),
    ],
)
def test_a_broken_controller_is_told(
    controller: Path, fields: dict[str, Any], message: str
) -> None:
    changed(controller, **fields)
    result = kq("control", str(controller))
    assert result.exit_code in (1, 2) and message in result.stderr, result.output


@pytest.mark.slow
def test_other_files_than_it_was_fitted_to_are_refused(controller: Path) -> None:
    shutil.rmtree(controller.parent / "a")
    result = kq("control", str(controller))
    assert result.exit_code == 1 and f"its run {controller.parent / 'a'} is not" in result.stderr
    make_staged_run(controller.parent / "a", seed=5)
    result = kq("control", str(controller))
    assert result.exit_code == 1 and "fitted to other files than those of a now" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("control", "nowhere.json"), 1, "nowhere.json"),
        (("control", "a.json", "digits", "--dataset", "digits"), 2, "both name images"),
        (("control", "a.json", "--csv", "gone/a.csv"), 2, "there is no folder gone"),
        (("simulate", "a", "--save", "gone/a.json"), 2, "there is no folder gone"),
        (
            ("simulate", "a", "--board", "nano", "--board", "agx-orin", "--save", "c.json"),
            2,
            "--save keeps one controller, and 2 places",
        ),
    ],
)
def test_bad_input_is_told(words: tuple[str, ...], code: int, message: str) -> None:
    result = kq(*words)
    assert (result.exit_code, message in result.output) == (code, True), result.output

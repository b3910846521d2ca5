"""kq anytime, on stages of random weights that need no TensorFlow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_quant.cli import train_ensemble as train_ensemble_module
from keras_quant.cli.train_options import parse_distill
from keras_quant.jobs import answer_in_time
from keras_quant.jobs.answer_in_time import AnytimeAnswers, ImageAnswer
from tests.anytime.asked import kq, parsed
from tests.staged_runs import make_staged_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_staged_run(tmp_path / "run")


@pytest.mark.slow
def test_thresholds_are_chosen_drawn_and_then_used(run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "exits.png"
    words = (str(run), "--dataset", "digits", "--budget", "0.75", "--plot", str(picture))
    record = parsed(kq("thresholds", *words, "--json"))
    assert picture.exists() and (run / "exits.json").exists()
    assert record["validation"]["mean_cost"] <= 0.75 * 2000
    answers = parsed(
        kq(
            "run",
            str(run),
            "--dataset",
            "digits",
            "--deadline-ms",
            "1e4",
            "--images",
            "9",
            "--json",
        )
    )
    assert answers["thresholds"] == record["thresholds"] and len(answers["answers"]) == 9
    assert {one["reason"] for one in answers["answers"]} <= {"sure", "last"}


@pytest.mark.slow
def test_tables_name_each_exit_and_how_images_ended(run: Path) -> None:
    shown = kq("thresholds", str(run), "--dataset", "digits").stdout
    assert "MACs up to it" in shown and shown.count("dense_") == 2
    shown = kq(
        "run", str(run), "--dataset", "digits", "--deadline-ms", "1e4", "--images", "5"
    ).stdout
    assert "ended by" in shown and "p99 ms" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "RUN", "--deadline-ms", "1e-6"), 2, "ms is the shortest possible here"),
        (("run", "RUN", "--deadline-ms", "5", "--format", "onnx"), 2, "has stages of tflite"),
        (("run", "RUN", "--deadline-ms", "5", "--format", "lite"), 2, "formats are tflite, onnx"),
        (("run", "RUN", "--deadline-ms", "nan"), 2, "--deadline-ms is nan; a number above 0"),
        (("run", "NOWHERE", "--deadline-ms", "5"), 1, "no such run folder"),
        (("run", "OTHER", "--deadline-ms", "5"), 1, "not a run folder: it has no run.json"),
        (("thresholds", "RUN", "--rule", "sure"), 2, "rules are entropy, max, margin"),
        (("thresholds", "RUN", "--accuracy", "1.5"), 2, "--accuracy is 1.5; a share above 0"),
        (("thresholds", "RUN", "--budget", "-1"), 2, "--budget is -1; a number above 0"),
        (("thresholds", "RUN", "--budget", "1", "--accuracy", "0.5"), 2, "give one of them"),
        (("thresholds", "RUN", "--budget", "0.1"), 3, "the first exit it is 1000 already"),
        (("thresholds", "RUN", "--cost", "time"), 2, "costs are macs, ms"),
        (("ensemble", "RUN"), 2, "an ensemble has two members or more"),
        (("ensemble", "RUN", "AGAIN"), 2, "a run is named twice: "),
        (("ensemble", "NOWHERE"), 1, "no such run folder: "),
    ],
)
def test_bad_input_is_told(run: Path, words: tuple[str, ...], code: int, message: str) -> None:
    paths = {
        "RUN": str(run),
        "NOWHERE": str(run / "nowhere"),
        "OTHER": str(run / "export"),
        "AGAIN": str(run / "export" / ".."),
    }
    result = kq(*(paths.get(word, word) for word in words), "--dataset", "digits")
    assert (result.exit_code, message in result.output) == (code, True), result.output


@pytest.mark.parametrize("words", [(), ("--no-thresholds",)], ids=str)
def test_p99_of_few_answers_is_near_the_longest(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    times = (1.0, 101.0)
    answers = tuple(
        ImageAnswer(
            image="test[0]",
            label=0,
            class_name="0",
            right=None,
            exit=0,
            sureness=0.5,
            elapsed_ms=elapsed,
            reason="last",
            logits=np.zeros(2, np.float32),
            sent_bytes=(),
        )
        for elapsed in times
    )
    done = AnytimeAnswers(
        format="tflite",
        deadline_ms=200.0,
        rule=None,
        thresholds=None,
        views=1,
        stage_times=(),
        answers=answers,
        accuracy=None,
        late_ms=0.0,
        elsewhere=None,
        notes={},
    )
    monkeypatch.setattr(answer_in_time, "run_anytime", lambda *_, **__: done)
    shown = kq("run", "models/a net", "--deadline-ms", "200", *words)
    assert "51.000  100.000     101.000" in shown.stdout
    hint = "no thresholds: kq anytime thresholds models/a net chooses"
    assert (hint in shown.stderr) == (not words)  # who wants none is not told to choose some


def test_a_picture_of_no_kind_is_told_before_the_work(run: Path) -> None:
    result = kq("thresholds", str(run), "--plot", "a.txt")
    assert result.exit_code == 2 and "a.txt: pictures end with .png" in result.output
    assert not (run / "exits.json").exists()


def test_noisy_images_are_answered_by_their_name(run: Path) -> None:
    words = ("run", str(run), "--dataset", "digits+noise90", "--deadline-ms", "1e4", "--json")
    done = parsed(kq(*words, "--images", "3"))
    assert [one["image"] for one in done["answers"]] == ["test[0]", "test[1]", "test[2]"]


def test_images_are_named_once(run: Path) -> None:
    result = kq("run", str(run), "digits", "--dataset", "digits", "--deadline-ms", "5")
    assert result.exit_code == 2 and "both name images" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bits", "4", "baging"), "ensemble 'baging' is not known; close names: bagging"),
        (("--bits", "4"), "Missing argument 'KIND'"),
        (("bagging", "--bitz", "4"), "No such option '--bitz'"),
        (("bagging", "4"), "unexpected extra argument"),
        (("bagging", "--members", "1"), "--members is 1; 2 or more"),
        (("--schedule", "cosine", "fast-geometric"), "--schedule cosine: of fast-geometric"),
        (("snapshot", "--model", "mlp,cnn"), "so all have one --model"),
        (("bagging", "--progressive", "4,3"), "--progressive trains several runs by itself"),
        (("boosting", "--shrinkage", "2"), "--shrinkage is 2.0; above 0, up to 1"),
    ],
)
@pytest.mark.tensorflow
def test_kind_may_stand_anywhere_and_what_is_wrong_is_told(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = kq("train-ensemble", "--out", str(tmp_path), *words)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert list(tmp_path.iterdir()) == []


def test_models_and_bits_are_taken_in_turn(tmp_path: Path) -> None:
    kind, options, typed = train_ensemble_module._options(
        ["--bits", "4,8", "bagging", "--model", "mlp,cnn", "--name", "both"]
    )
    settings = train_ensemble_module._settings(options, members=3, shrinkage=1.0)
    assert [(each.model, each.scheme.name) for each in settings] == [
        ("mlp", "w4a4"),
        ("cnn", "w8a8"),
        ("mlp", "w4a4"),
    ]
    assert (kind, typed) == ("bagging", {"kind", "bits", "model", "name"})
    folders = [
        train_ensemble_module._folder(options | {"name": name}, settings[0], kind)
        for name in ("both", None)
    ]
    assert [folder.name for folder in folders] == ["both", "digits-mlp-w4a4-bagging"]


def test_distill_names_one_teacher_or_several(tmp_path: Path) -> None:
    whole = tmp_path / "a,b"
    whole.mkdir()
    assert parse_distill("a,b", None) == ((Path("a"), Path("b")), 0.9)
    assert parse_distill(str(whole), 0.5) == ((whole,), 0.5)
    assert parse_distill("0.4", None) == ((), 0.4)


@pytest.mark.slow
def test_a_controller_is_simulated_and_drawn(run: Path, tmp_path: Path) -> None:
    other, picture = make_staged_run(tmp_path / "other", seed=1), tmp_path / "controller.png"
    words = ("simulate", str(run), str(other), "--board", "nano", "--fuse")
    done = parsed(kq(*words, "--plot", str(picture), "--json"))
    (place,) = done["places"]
    names = [one["name"] for one in place["options"]]
    assert sorted(names) == ["first 2 together", "other", "other exit 1", "run", "run exit 1"]
    assert place["is_estimate"] and place["place"].startswith("ESTIMATE, Jetson Nano")
    assert sum(place["test"]["shares"]) == pytest.approx(1)
    assert picture.exists()
    shown = kq(*words, "--budget", "0.5", "--looks", "1").stdout
    assert "controller takes" in shown and "oracle, as accurate" in shown


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("RUN", "NOWHERE"), 1, "nowhere: no such run folder"),
        (("RUN", "RUN"), 2, "a run is named twice"),
        (("RUN", "--rule", "sure"), 2, "rules are entropy, max, margin"),
        (("RUN", "--cost", "joule"), 2, "costs are ms, mj"),
        (("RUN", "--budget", "2"), 2, "--budget is 2; a share above 0, up to 1"),
        (("RUN", "--budget", "1", "--accuracy", "1"), 2, "ask for different controllers"),
        (("RUN", "--looks", "9"), 2, "--looks is 9; 1 to 4 is allowed"),
        (("RUN", "--board", "nan0"), 2, "board 'nan0' is not known"),
        (("RUN", "--board", "nano", "--cost", "mj"), 2, "energy is not estimated"),
        (("RUN", "--board", "nano", "--accuracy", "1"), 3, "controllers reach"),
        (("RUN", "--board", "nano", "--plot", "a.txt"), 2, "a.txt: pictures end with .png"),
        (("RUN", "--format", "tfl"), 2, "--format 'tfl' is not known"),
        (("RUN", "--times", "NOWHERE"), 1, "nowhere"),
    ],
)
def test_bad_input_to_a_simulation_is_told(
    run: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    paths = {"RUN": str(run), "NOWHERE": str(run / "nowhere")}
    result = kq("simulate", *(paths.get(word, word) for word in words))
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_all_images_of_a_folder_are_answered_by_name(run: Path, tmp_path: Path) -> None:
    folder, table = tmp_path / "images", tmp_path / "answers.csv"
    for name in ("3/a.png", "5/b.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / name)
    words = ("run", str(run), str(folder), "--deadline-ms", "1e4")
    done = parsed(kq(*words, "--csv", str(table), "--json"))
    assert [one["image"] for one in done["answers"]] == ["3/a.png", "5/b.png"]
    # Two folders are not the ten classes of the net, so nothing is right or wrong.
    assert done["accuracy"] is None and done["answers"][0]["right"] is None
    lines = table.read_text().splitlines()
    assert lines[0].startswith("image,class,sureness") and lines[2].startswith("5/b.png,")
    shown = kq(*words)
    assert "3/a.png" in shown.stdout and "has 2 classes, and the net tells 10" in shown.stderr


def test_right_answers_are_told_where_classes_are_the_nets(run: Path, tmp_path: Path) -> None:
    for label in range(10):
        path = tmp_path / "images" / str(label) / "a.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    done = parsed(kq("run", str(run), str(tmp_path / "images"), "--deadline-ms", "1e4", "--json"))
    assert [one["right"] for one in done["answers"]].count(True) == 1
    assert done["accuracy"] == 0.1


def test_a_table_that_cannot_be_written_is_told_first(tmp_path: Path) -> None:
    table = tmp_path / "gone" / "a.csv"
    result = kq("run", "nowhere", "--deadline-ms", "5", "--csv", str(table))
    assert result.exit_code == 2 and "there is no folder" in result.stderr

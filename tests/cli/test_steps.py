"""What is wrong with the steps of a recipe, said before the first one runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from keras_quant.cli.main import main
from keras_quant.cli.steps import problems_of_steps
from keras_quant.jobs import recipe as job
from keras_quant.jobs.recipe_file import COMMANDS, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))

HEAD = """
format: 1
name: late
title: Late
scales: {small: {}}
table:
  columns: {top-1 error: "error %"}
  rows: {ours: {top-1 error: "last: 0.accuracy"}}
steps:
  float: [train, --method, float, --out, "{runs}", --name, float, --overwrite]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where commands are read: without runs, of which one may have the name of a step's."""
    monkeypatch.chdir(tmp_path)


def problems(runs: Path, *steps: str) -> list[tuple[str, str]]:
    """Of a run `float` that is trained, and of commands that stand behind it; {} is the folder."""
    words = [
        ["train", "--method", "float", "--out", str(runs), "--name", "float"],
        *(step.replace("{}", str(runs)).split() for step in steps),
    ]
    return problems_of_steps({f"step{place}": one for place, one in enumerate(words, 1)}, runs)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_nothing_is_wrong_with_our_recipes(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    for scale in recipe.scales:
        steps = {name: recipe.words(name, scale, tmp_path) for name in recipe.steps}
        assert problems_of_steps(steps, tmp_path) == []


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("train --epoch 3", ("No such option", "'--epochs'", "kq train --help")),
        ("train --epochs three", ("'--epochs': 'three' is not a valid integer",)),
        ("train --epochs 0", ("--epochs is 0; 1 or more is allowed",)),
        ("train --method lqs", ("method 'lqs' is not known; close names: lsq; methods are",)),
        ("train --bits w99a4", ("bits 'w99a4' are not understood: bits are 1 to 8",)),
        (
            "train --optimizer adm",
            ("--optimizer 'adm' is not known; close names: adam; known: adam, sgd",),
        ),
        ("train --model resnet21", ("no model 'resnet21'; close names: resnet32, resnet20",)),
        ("train --model resnet20 --option depth=3", ("has no option depth; it has",)),
        ("train --model none.keras", ("--model none.keras: there is no such file",)),
        ("train --dataset cifar11", ("no dataset 'cifar11'; close names: cifar10",)),
        ("train --preprocess unti", ("--preprocess 'unti' is not known; close names: unit",)),
        ("train --nested 4,8", ("8 is not fewer bits than what comes before it",)),
        ("train --nested 8,4 --method bnn", ("--method bnn has no way to; allowed: nested",)),
        ("train --from {}/flaot", ("--from", "no earlier step makes it; close names: ", "/float")),
        ("train --distill {}/flaot", ("--distill", "no earlier step makes it; close names: ")),
        ("train --from {}/float --out {} --name float", ("a run cannot start --from itself",)),
        ("quantize {}/float --to tflight", ("--to 'tflight' is not known; close names: tflite",)),
        ("quantize {}/float --calibrator mini", ("mini", "minmax")),
        ("quantize {}/float --max-drop 100", ("--max-drop is 100 points; 0 up to 100",)),
        ("quantize cnn", ("cnn is built without weights", "--from RUN")),
        ("quantize resnet8x", ("no such run or model; close names: resnet8",)),
        ("quantize", ("Missing argument 'MODEL'",)),
        ("export {}/float --kind fp61", ("--kind 'fp61' is not known; kinds are integer, fp16",)),
        ("export {}/float --kind fp16 --pack fast", ("--pack goes with integer files",)),
        ("export {}/float --board orin-nono --to tensorrt", ("orin-nono", "orin-nano")),
        ("evaluate {}/float --split tset", ("split 'tset' is not known; splits are test",)),
        ("evaluate {}/float twice", ("unexpected extra argument (twice)",)),
        ("evaluate none.tflite", ("evaluate none.tflite: is not there, and no earlier step",)),
        ("bench {}/float --runtime litter", ("--runtime 'litter' is not known; close", "litert")),
        ("bench {}/float --loads 3", ("'--loads': 3 is not in the range x>=8",)),
        ("bench resnet20 --estimate", ("--estimate needs --board, one of",)),
        ("bench resnet20 --estimate --board nona", ("nona", "nano")),
        ("bench {}/float --output none/x.json", ("there is no folder none; make it",)),
        ("compare {}/other", ("compare", "/other: is not there, and no earlier step makes it")),
        ("inspect resnet21", ("resnet21: no such run, file or zoo model; close names: resnet32",)),
        ("inspect {}/float --bits 4", ("--bits, --scheme, --set and --dataset are for models",)),
        ("diagnose {}/float/export/model.tflite --images 0", ("--images is 0; 1 or more",)),
        ("anytime threshold {}/float", ("No such command 'threshold'",)),
        ("anytime thresholds {}/float --rule entropi", ("--rule 'entropi' is not known; close",)),
        ("anytime thresholds {}/float --plot x.bmp", ("x.bmp: pictures end with",)),
        ("anytime", ("one of its commands is needed: concat",)),
        ("train --help", ("asks for help, and makes nothing",)),
    ],
)
def test_what_a_command_would_refuse_of_a_later_step_is_told(
    tmp_path: Path, step: str, told: tuple[str, ...]
) -> None:
    found = problems(tmp_path / "runs", step)
    assert [name for name, _ in found] == ["step2"]
    for text in told:
        assert text in found[0][1]


@pytest.mark.parametrize(
    "step",
    [
        "train --from {}/float --out {}",
        "train --from {}/float --distill {}/float/model.keras --bits 4",
        "train --model {}/float/model.keras",
        "quantize {}/float --bits w4a8",
        "bench {}/float/export/model.tflite --output {}/float/bench.json",
        "bench resnet20 --estimate --board nano",
        "compare {}/float",
        "inspect {}/float/export/model.kqgraph --graph",
        "inspect resnet20 --bits 4",
        "anytime thresholds {}/float --plot {}/float/exits.png",
    ],
)
def test_what_an_earlier_step_makes_need_not_be_there(tmp_path: Path, step: str) -> None:
    assert problems(tmp_path / "runs", step) == []


@pytest.mark.parametrize(
    ("step", "made"),
    [
        ("train --progressive 4,3 --out {} --name few", ("few-w4a4", "few-w3a3")),
        ("train --nested 8,4 --out {} --name few", ("few", "few-w8a8", "few-w4a4")),
        ("train --slim 0.5,1 --bits 8 --out {} --name few", ("few", "few-x0.5", "few-x1")),
        ("train --bits 4 --out {}", ("digits-cnn-w4a4",)),
        ("quantize {}/float --out {}", ("float-w8a8",)),
        ("export {}/float --out {}/files", ("files/model.tflite",)),
        ("diagnose {}/float/x.tflite --out {}/found", ("found/layers.json",)),
        ("anytime cut {}/float", ("whatever",)),  # what it makes is not known here
    ],
)
def test_each_thing_that_a_step_makes_may_be_read_behind_it(
    tmp_path: Path, step: str, made: tuple[str, ...]
) -> None:
    reading = [f"evaluate {{}}/{name}" for name in made]
    assert problems(tmp_path / "runs", step, *reading) == []
    found = problems(tmp_path / "runs", *reading, step)  # and not before it
    assert [name for name, _ in found][:1] == ["step2"]


def test_what_is_written_into_a_run_of_others_may_be_read_behind_it(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    steps = [
        f"export {tmp_path}/own --to tflite",
        f"bench {tmp_path}/own/export/model.tflite",
        f"bench {tmp_path}/own --baseline {tmp_path}/own/bench.json",
    ]
    assert problems(tmp_path / "runs", *steps) == []
    assert [name for name, _ in problems(tmp_path / "runs", steps[2])] == ["step2"]


def test_a_run_that_is_there_already_is_told_before_it_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "run.json").write_text("{}")
    steps = [f"train --out {{}} --name few{more}" for more in ("", " --overwrite", " --resume")]
    found = problems(tmp_path, *steps)
    assert [name for name, _ in found] == ["step2"]
    assert "a run of that name exists. Give --name NAME for another, --overwrite" in found[0][1]


def test_all_problems_of_all_steps_are_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, "train --bits 99", "evaluate {}/float", "compare --images 0 x")
    assert [name for name, _ in found] == ["step2", "step4"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is run; nothing is."""
    words: list[list[str]] = []

    def call(given: list[str]) -> object:
        words.append(given)
        return [{"accuracy": 0.9}]

    monkeypatch.setattr(job, "call_kq", call)
    return words


def test_nothing_is_run_where_a_later_step_is_wrong(tmp_path: Path, calls: list[list[str]]) -> None:
    file = tmp_path / "late.yaml"
    file.write_text(HEAD + '  last: [evaluate, "{runs}/float", --spilt, test]\n')
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "out")])
    assert (done.exit_code, calls) == (2, [])
    assert f"{file}: step 2, last: evaluate: No such option" in done.stderr
    assert "--spilt" in done.stderr and "--split" in done.stderr
    file.write_text(HEAD + '  last: [evaluate, "{runs}/float", --split, test]\n')
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "out")])
    assert (done.exit_code, len(calls)) == (0, 2), done.output


def test_a_step_that_is_done_is_not_looked_at_again(tmp_path: Path, calls: list[list[str]]) -> None:
    file = tmp_path / "late.yaml"
    file.write_text(HEAD + '  last: [evaluate, "{runs}/float"]\n')
    words = ["train", "--method", "float", "--out", str(tmp_path / "runs"), "--name", "float"]
    (tmp_path / "steps").mkdir()
    record = {"words": [*words, "--overwrite"], "printed": [], "seconds": 1.0}
    (tmp_path / "steps" / "float.json").write_text(json.dumps(record))
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path)])
    assert (done.exit_code, calls) == (2, [])
    assert "step 2, last: evaluate" in done.stderr and "is not there" in done.stderr


def test_each_command_of_recipes_is_looked_at(tmp_path: Path) -> None:
    for command in COMMANDS:
        assert problems(tmp_path, f"{command} --no-such-option") != []

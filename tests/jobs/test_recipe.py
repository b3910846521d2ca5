"""Recipes: what they may say, what becomes of it, and what is done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest

from keras_quant.cli.main import main
from keras_quant.errors import RunError, UsageError
from keras_quant.files import FileError
from keras_quant.jobs.recipe import Call, as_markdown, call_kq, run_recipe
from keras_quant.jobs.recipe_file import Cell, load_recipe
from keras_quant.plots.recipe import draw_results
from keras_quant.runs.lock import locked
from keras_quant.runs.progress import Progress

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("recipes/*.yaml"))
MAKERS = ("train", "quantize", "export")
REPORTED = [path for path in RECIPES if (ROOT / "reports" / path.stem / "results.json").is_file()]

RECIPE = """
format: 1
name: sizes
title: Sizes
scales:
  small: {bits: 4}
  full: {bits: 8}
steps:
  made: [quantize, net.keras, --bits, "{bits}", --out, "{runs}"]
  asked: [evaluate, "{runs}/net"]
table:
  columns: {size: kB, top-1 error: "error %"}
  rows:
    ours:
      size: "made: record.figures[name=size,notes=TFLite].value"
      top-1 error: "asked: 0.scores.accuracy"
    none: {size: "asked: 7.size"}
published:
  source: somewhere
  columns: {size: MB}
  rows: {theirs: {size: 85.5}}
differs: [another net]
"""
PRINTED: dict[str, Any] = {
    "quantize": {
        "record": {
            "figures": [
                {"name": "size", "notes": "float", "value": 9},
                {"name": "size", "notes": "TFLite", "value": 12_345},
            ]
        }
    },
    "evaluate": [{"scores": {"accuracy": 0.9}}],
}


class Calls:
    """Stands in for kq; the words that it was called with."""

    def __init__(self) -> None:
        self.words: list[list[str]] = []

    def __call__(self, words: Sequence[str]) -> Any:
        self.words.append(list(words))
        return PRINTED[words[0]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "sizes.yaml").write_text(RECIPE)
    return tmp_path / "sizes.yaml"


def run(file: Path, calls: Call, **more: Any) -> Any:
    settings = {"scale": "small", "out": file.parent / "out", "progress": Progress(quiet=True)}
    return run_recipe(file, call=calls, **{**settings, **more})


def test_steps_get_the_values_of_the_scale_and_the_table_their_figures(file: Path) -> None:
    calls = Calls()
    results, folder = run(file, calls)
    runs = str(folder / "runs")
    assert calls.words == [
        ["quantize", "net.keras", "--bits", "4", "--out", runs],
        ["evaluate", f"{runs}/net"],
    ]
    assert results.rows["ours"]["size"] == 12.345
    assert results.rows["ours"]["top-1 error"] == pytest.approx(10)
    assert results.rows["none"] == {"size": None, "top-1 error": None}


def test_a_cell_that_finds_no_number_is_told(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(RECIPE.replace("scores.accuracy", "scores.acuracy"))
    out = file.parent / "out"
    run_recipe(file, scale="small", out=out, call=Calls(), progress=Progress())
    told = "printed no number at 0.scores.acuracy"
    assert told in capsys.readouterr().err


def test_results_are_a_page_a_table_and_a_record(file: Path) -> None:
    results, folder = run(file, Calls())
    page = (folder / "results.md").read_text()
    assert page == as_markdown(results)
    for line in (
        "|  | size (kB) | top-1 error (%) |",
        "| ours | 12.35 | 10.00 |",
        "| none | - | - |",
        "Published (somewhere):",
        "| theirs | 85.5 |",
        "- another net",
    ):
        assert line in page.splitlines()
    rows = (folder / "results.csv").read_text().splitlines()
    assert rows[0] == ",size (kB),top-1 error (%)"
    assert rows[2] == "none,,"
    record = json.loads((folder / "results.json").read_text())
    assert record["rows"]["ours"]["size"] == 12.345
    assert record["commands"]["made"][0] == "quantize"


def test_a_name_with_a_bar_or_a_line_break_stays_in_its_cell(file: Path) -> None:
    file.write_text(RECIPE.replace("    ours:", '    "a|b\\nc":'))
    results, _ = run(file, Calls())
    assert r"| a\|b c | 12.35 | 10.00 |" in as_markdown(results).splitlines()


def test_what_was_done_with_the_same_words_is_not_done_again(file: Path) -> None:
    run(file, Calls())
    again, other, anew = Calls(), Calls(), Calls()
    run(file, again)
    assert again.words == []
    run(file, other, scale="full")  # the second step's words are the same, but not what it reads
    assert [words[0] for words in other.words] == ["quantize", "evaluate"]
    run(file, anew, scale="full", overwrite=True)
    assert len(anew.words) == 2


def test_a_step_that_is_done_again_leaves_nothing_old_behind_it(file: Path) -> None:
    run(file, Calls())

    def stopped(words: Sequence[str]) -> Any:
        if words[0] == "evaluate":
            raise KeyboardInterrupt
        return PRINTED[words[0]]

    with pytest.raises(KeyboardInterrupt):
        run(file, stopped, scale="full")
    resumed = Calls()
    run(file, resumed, scale="full")
    assert [words[0] for words in resumed.words] == ["evaluate"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seconds": "soon"}, "seconds: is 'soon'; a number is needed"),
        ({"seconds": -1}, "seconds: is -1.0; a time is needed"),
        ({"seconds": float("nan")}, "seconds: is nan; a time is needed"),
        ({"seconds": 10**400}, "beyond any float"),
        ({"words": "evaluate"}, "words: is 'evaluate'; a list is needed"),
        ({"more": 1}, "more: unknown field"),
        (None, "holds a list, and no object"),
    ],
    ids=["text", "negative", "nan", "huge", "words", "more", "list"],
)
def test_a_damaged_record_of_a_step_is_told_and_the_step_done_again(
    file: Path, changes: dict[str, Any] | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = run(file, Calls())
    step = folder / "steps" / "asked.json"
    content = json.loads(step.read_text())
    step.write_text(json.dumps([] if changes is None else {**content, **changes}))
    again = Calls()
    run(file, again, progress=Progress())
    assert [words[0] for words in again.words] == ["evaluate"]
    said = capsys.readouterr().err
    assert f"{step}: " in said and told in said and "The step is done again" in said
    assert json.loads(step.read_text())["words"] == content["words"]


def test_two_do_not_run_into_one_folder(file: Path) -> None:
    calls = Calls()
    with locked(file.parent / "out"), pytest.raises(RunError, match="works on it"):
        run(file, calls)
    assert calls.words == []
    run(file, calls)
    assert len(calls.words) == 2


def test_notes_are_no_differences_where_nothing_is_published(file: Path) -> None:
    before, _, _ = RECIPE.partition("published:")
    file.write_text(f"{before}differs: [one seed]\n")
    results, _ = run(file, Calls())
    lines = as_markdown(results).splitlines()
    assert "Notes:" in lines and "- one seed" in lines and "What differs:" not in lines


def test_a_step_that_fails_ends_the_recipe_and_those_before_stay(file: Path) -> None:
    def fails(words: Sequence[str]) -> Any:
        if words[0] == "evaluate":
            raise RunError("kq evaluate: ended with 1")
        return PRINTED[words[0]]

    with pytest.raises(RunError, match="ended with 1"):
        run_recipe(
            file, scale="small", out=file.parent / "out", call=fails, progress=Progress(quiet=True)
        )
    assert [path.name for path in (file.parent / "out" / "steps").iterdir()] == ["made.json"]
    assert not (file.parent / "out" / "results.md").exists()


def test_a_command_that_kq_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"kq evaluate .*none\.tflite: ended with 1:\nerror: .*none"):
        call_kq(["evaluate", str(tmp_path / "none.tflite")])


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("format: 1", "format: 2", "format: it is 2; 1 is read here"),
        ("name: sizes", "name: ../sizes", "name: it is '../sizes'; small letters"),
        ("name: sizes", "name:", "name: nothing is there; small letters"),
        ("name: sizes", "name: [a]", "name: it is ['a']; small letters"),
        ("[quantize,", "[quantise,", "'quantise' is no command of recipes; close names: quantize"),
        ("{bits}", "{bit}", "asks for bit; scale small has bits, runs"),
        ("{bits}", "{}", "a name is needed in braces; {{ stands for a brace"),
        ("{bits}", "{bits.__class__}", "asks for bits.__class__"),
        ("{bits}", "{bits:{size}}", "a name alone is allowed in braces"),
        ("{bits}", "{bits!r}", "a name alone is allowed in braces"),
        ("{size: kB,", "{size: kb,", "unit 'kb' is not known; close names: kB"),
        ('"made: record', '"mad: record', "no step 'mad'; close names: made"),
        ("none: {size:", "none: {siz:", "no column 'siz'; close names: size"),
        ('columns: {size: kB, top-1 error: "error %"}', "columns: {}", "columns: at least one"),
        ("differs: [another net]", "differs: 3", "differs: a list of sentences is needed"),
        ("steps:", "stepz:", "'stepz' is not known; close names: steps"),
        ("format: 1", "- 1", "no recipe that can be read"),
        ("  asked:", "  made:", "'made' stands there 2 times"),
        ("{bits: 4}", "{bits: 4, runs: x}", "scales.small: runs is the folder of runs"),
        ("{bits: 4}", "{bits: no}", "scales.small.bits: a word is needed, in quotes"),
        ('"{bits}", --out', "yes, --out", "steps.made: a word is needed, in quotes"),
        ('"{bits}", --out', "[4], --out", "steps.made: a word is needed, in quotes"),
        ("{size: 85.5}", "{sise: 85.5}", "published.rows.theirs: no column 'sise'; close names"),
        ("{size: 85.5}", "{size: [1]}", "published.rows.theirs.size: a number or a text is needed"),
        ("source: somewhere", "source: ''", "published.source: say where"),
        ('"asked: 7.size"', "asked", "behind the step, a colon and a path are needed"),
        ('"asked: 7.size"', '"asked: 7.size]"', "behind the step, a colon and a path are needed"),
        ('"asked: 7.size"', '"asked: 7[0]"', "behind the step, a colon and a path are needed"),
        ('"asked: 7.size"', '"asked: 7..size"', "behind the step, a colon and a path are needed"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_told(file: Path, old: str, new: str, told: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError) as raised:
        load_recipe(file)
    assert told in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_table_without_rows_is_told(file: Path) -> None:
    before, _, after = file.read_text().partition("  rows:\n    ours:")
    file.write_text(f"{before}  rows: {{}}\npublished:{after.partition('published:')[2]}")
    with pytest.raises(UsageError, match=r"table\.rows: at least one is needed"):
        load_recipe(file)


def test_a_column_without_figures_is_an_empty_panel(file: Path) -> None:
    file.write_text(RECIPE.replace("scores.accuracy", "scores.acuracy"))
    results, _ = run(file, Calls())
    sizes, errors = draw_results(results).axes
    assert (len(sizes.patches), len(errors.patches)) == (1, 0)


def test_a_file_that_is_not_there_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match=r"is a folder; give a recipe"):
        load_recipe(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"), [("", "nothing is there"), ("- 1", "it is [1]"), ("hi", "it is 'hi'")]
)
def test_what_is_no_recipe_at_all_is_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        load_recipe(path)
    assert str(raised.value) == (
        f"{path}: no recipe: {said}; docs/recipes.md says how one is written, which begins with "
        "format: 1"
    )


def test_a_folder_in_place_of_what_a_step_printed_is_told(file: Path) -> None:
    (file.parent / "out" / "steps" / "made.json").mkdir(parents=True)
    with pytest.raises(FileError, match=r"made\.json: not removed: Is a directory"):
        run(file, Calls())


def test_an_unknown_scale_is_refused(file: Path) -> None:
    with pytest.raises(UsageError, match="scale 'large' is not one of .*scales are small, full"):
        run(file, Calls(), scale="large")


def test_a_path_finds_numbers_only() -> None:
    printed = {"a": {"list": [1, {"name": "x", "value": True}, {"name": "y", "value": 2.5}]}}
    printed["a"]["list"].append({"name": "z", "notes": "b, output c", "value": 3})
    for path, value in (
        ("list.0", 1),
        ("list[name=y].value", 2.5),
        ("list[name=x].value", None),  # a truth value is no figure
        ("list[name=w].value", None),
        ("list[notes=b, output c].value", 3),
        ("list[notes=b, output c,name=y].value", None),
        ("list[name=z,notes=b, output c].value", 3),
        ("list[name=y,notes=b].value", None),
        ("list.9", None),
        ("list.name", None),
        ("none.of.this", None),
    ):
        assert Cell(step="a", path=path).value(printed) == value
    assert Cell(step="b", path="list.0").value(printed) is None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", str(10**400), "1e999"])
def test_what_is_not_finite_is_no_figure(number: str) -> None:
    printed = {"a": json.loads(f'{{"x": {number}}}')}
    assert Cell(step="a", path="x").value(printed) is None


def test_bars_are_as_long_as_the_figures(file: Path) -> None:
    results, _ = run(file, Calls())
    assert set(results.rows) == {"ours", "none"}
    sizes, errors = draw_results(results).axes
    assert [bar.get_width() for bar in sizes.patches] == [12.345]
    assert errors.get_xlabel() == "top-1 error (%)"
    assert [label.get_text() for label in sizes.get_yticklabels()] == ["ours"]  # the other has none


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_of_ours_can_be_read(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert set(recipe.scales) == {"small", "full"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_step_of_ours_is_a_command_that_kq_takes(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    for scale in recipe.scales:
        for step in recipe.steps:
            name, *words = recipe.words(step, scale, tmp_path)
            command = main.get_command(click.Context(main), name)  # type: ignore[attr-defined]
            assert command is not None
            command.make_context(name, words)  # raises what a user would be told


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_step_of_ours_is_asked_for_a_figure_or_makes_what_another_reads(path: Path) -> None:
    recipe = load_recipe(path)
    asked = {cell.step for cells in recipe.rows.values() for cell in cells.values()}
    makes = {name for name, words in recipe.steps.items() if words[0] in MAKERS}
    assert set(recipe.steps) == asked | makes


@pytest.mark.parametrize("path", REPORTED, ids=lambda path: path.stem)
def test_the_results_in_reports_are_of_the_recipe_as_it_stands(path: Path) -> None:
    recipe, folder = load_recipe(path), Path("reports", path.stem)
    results = json.loads((ROOT / folder / "results.json").read_text())
    assert results["commands"] == {
        step: recipe.words(step, results["scale"], folder / "runs") for step in recipe.steps
    }
    assert results["columns"] == recipe.columns
    for row, cells in recipe.rows.items():
        found = results["rows"][row]
        assert {column for column in recipe.columns if found[column] is not None} == set(cells)
    assert results["published"] == recipe.published
    assert results["differs"] == list(recipe.differs)

from __future__ import annotations

import ast
import dataclasses
import pkgutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from keras_quant import plots
from keras_quant.cli.plot import KINDS as NAMES
from keras_quant.errors import UsageError
from keras_quant.plots import training_curves
from keras_quant.plots.draw import KINDS, draw, save
from keras_quant.runs import history
from keras_quant.runs.index import Run, read_run
from keras_quant.runs.records import DatasetRecord
from tests.fake_runs import RECORD, make_run
from tests.plots.test_tradeoff import run as scored
from tests.runs.test_history import epochs


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = make_run(tmp_path / "run")
    (folder / history.FILE_NAME).write_text(history.to_csv(epochs("accuracy")))
    return read_run(folder)


def test_the_command_names_all_pictures() -> None:
    assert tuple(KINDS) == NAMES


def test_a_picture_that_is_not_known_gets_close_names() -> None:
    with pytest.raises(UsageError, match="'acuracy-size'; close names: accuracy-size"):
        draw("acuracy-size", [])


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_are_written_whole(suffix: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"picture{suffix}"
    save(draw("training", [run]), path)
    if suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert Image.open(path).size == (1280, 760)
    assert list(path.parent.iterdir()) == [path]


FORMULA = r"$\frac{$"  # what matplotlib cannot read as a formula


@pytest.mark.parametrize("kind", ["accuracy-bits", "accuracy-size", "training"])
def test_names_with_dollars_are_no_formulas(kind: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").rename(named := tmp_path / "$a$ $b_{$")
    runs = [
        dataclasses.replace(scored("qkeras", 4, 90.0, 1000), path=named, scheme=FORMULA),
        dataclasses.replace(scored("lsq", 8, 91.0, 2000), path=named, method=FORMULA),
    ]
    save(draw(kind, runs, title=f"5 $ and {FORMULA}"), tmp_path / "picture.svg")
    drawn = (tmp_path / "picture.svg").read_text("utf-8")
    assert f"5 $ and {FORMULA}" in drawn  # a comment beside the paths of its letters


def test_whatever_gives_a_figure_draws_texts_as_they_are() -> None:
    for module in pkgutil.iter_modules(plots.__path__):
        source = Path(plots.__path__[0], f"{module.name}.py").read_text("utf-8")
        for node in ast.parse(source).body:
            gives_a_figure = (
                isinstance(node, ast.FunctionDef)
                and not node.name.startswith("_")
                and node.returns is not None
                and ast.unparse(node.returns) == "Figure"
            )
            if gives_a_figure and (module.name, node.name) != ("draw", "draw"):  # calls the others
                assert "plain_texts()" in map(ast.unparse, node.decorator_list), node.name


def test_other_kinds_of_files_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"picture\.bmp: pictures end with \.png, \.svg"):
        save(draw("training", [run]), tmp_path / "picture.bmp")


def test_runs_of_two_datasets_are_not_drawn_together() -> None:
    other = dataclasses.replace(RECORD.dataset, name="cifar10")
    assert isinstance(other, DatasetRecord)
    runs = [
        scored("qkeras", 4, 90.0, 1000),
        dataclasses.replace(
            scored("qkeras", 8, 91.0, 2000), record=dataclasses.replace(RECORD, dataset=other)
        ),
    ]
    with pytest.raises(UsageError, match=r"different datasets \(cifar10, digits\).*--where"):
        draw("accuracy-size", runs)
    assert draw("accuracy-size", runs[:1]).axes[0].get_title() == "qkeras-4"


def test_bits_of_layers_needs_one_exported_run(run: Run) -> None:
    with pytest.raises(UsageError, match=r"has no model\.kqgraph yet; kq export writes it"):
        draw("bits-of-layers", [run])
    with pytest.raises(UsageError, match="drawn of one run; 2 were given"):
        draw("bits-of-layers", [run, run])


def test_training_is_drawn_thin_and_validation_thick_in_percent() -> None:
    figure = training_curves({"a": epochs("accuracy"), "b": []}, title="")
    losses, scores = figure.axes
    thin, thick = losses.lines
    assert thin.get_xydata().tolist() == [[1, 2.0], [2, 1.0]] and thin.get_linewidth() == 0.7
    assert thick.get_xydata().tolist() == [[1, 3.0], [2, 3.0]]
    assert [line.get_ydata().tolist() for line in scores.lines] == [[25.0, 50.0], [12.5, 12.5]]
    assert [text.get_text() for text in figure.legends[0].get_texts()][0] == "a"
    with pytest.raises(UsageError, match="no run was trained for an epoch; runs looked at: 1"):
        training_curves({"b": []}, title="")


def test_scores_of_several_metrics_are_not_drawn_in_one_picture() -> None:
    histories = {"a": epochs("accuracy"), "b": epochs("elbo")}
    with pytest.raises(UsageError, match="several metrics \\(accuracy, elbo\\) are not drawn"):
        training_curves(histories, title="")
    _, scores = training_curves({"b": epochs("elbo")}, title="").axes
    assert scores.get_ylabel() == "ELBO [nats]"

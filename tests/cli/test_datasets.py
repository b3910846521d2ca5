from __future__ import annotations

import json

from click.testing import CliRunner

from keras_quant.cli.main import main
from keras_quant.cli.train_options import dataset_stem
from keras_quant.data.catalog import DATASETS


def test_each_dataset_has_a_line() -> None:
    result = CliRunner().invoke(main, ["datasets"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", *DATASETS]


def test_json_says_which_are_on_this_machine() -> None:
    listed = json.loads(CliRunner().invoke(main, ["datasets", "--json"]).stdout)
    assert list(listed) == list(DATASETS)
    assert listed["digits"]["available"] is True
    assert listed["cifar10"]["available"] is False  # tests/conftest.py hides real data
    assert listed["cifar10"]["input_shape"] == [32, 32, 3]


def test_folders_are_called_by_all_that_a_name_asks_for() -> None:
    names = ("cifar10", "cifar10+16px", "x/own.npz", "x/own.npz+16px", "photos/+noise9", "a+b.npz")
    short = ["cifar10", "cifar10+16px", "own", "own+16px", "photos+noise9", "a+b"]
    assert [dataset_stem(name) for name in names] == short

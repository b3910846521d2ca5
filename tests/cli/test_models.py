from __future__ import annotations

import json

from click.testing import CliRunner

from keras_quant.cli.main import main
from keras_quant.zoo.catalog import MODELS


def test_each_model_has_a_line() -> None:
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["name", *MODELS]


def test_json_tells_description_and_options() -> None:
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).stdout)
    assert list(listed) == list(MODELS)
    assert all(model["description"] for model in listed.values())
    assert listed["mlp"]["options"]["units"]["default"] == MODELS["mlp"].options["units"].default

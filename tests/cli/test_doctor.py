from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from keras_quant.cli.main import main
from keras_quant.jobs import diagnosis
from keras_quant.jobs.diagnosis import Check

PRESENT = Check(name="numpy", found="2.4.6")
OPTIONAL = Check(name="extra ray", found="without ray", status="optional", remedy="pip install ray")
MISSING = Check(name="qkeras", found="no module", status="missing", remedy="pip install qkeras")


def test_optional_gaps_are_listed_with_their_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "diagnose", lambda: [PRESENT, OPTIONAL])
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert "pip install ray" in result.stdout


def test_missing_package_ends_with_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "diagnose", lambda: [PRESENT, MISSING])
    result = CliRunner().invoke(main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert result.stderr == "error: required but missing: qkeras\n"
    assert [check["name"] for check in json.loads(result.stdout)] == ["numpy", "qkeras"]

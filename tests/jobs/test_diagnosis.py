from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import setuptools

from keras_quant import __version__
from keras_quant.jobs import diagnosis

ROOT = Path(__file__).parents[2]


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What setup.py hands to setuptools."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path(str(ROOT / "setup.py"))
    return given


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}


def test_doctor_checks_exactly_what_setup_requires(metadata: dict[str, Any]) -> None:
    assert set(diagnosis.REQUIRED) == names(metadata["install_requires"])


def test_doctor_knows_every_extra(metadata: dict[str, Any]) -> None:
    assert set(diagnosis.EXTRAS) == set(metadata["extras_require"])


def test_setup_states_the_version_of_the_package(metadata: dict[str, Any]) -> None:
    assert metadata["version"] == __version__


def test_broken_package_is_missing_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "REQUIRED", {"numpy": "numpy", "nowhere": "nowhere_module"})
    present, missing = diagnosis._packages()
    assert present.status == "ok"
    assert missing.status == "missing"
    assert "No module named 'nowhere_module'" in missing.found
    assert missing.remedy == "pip install --upgrade nowhere"


def test_extra_that_is_not_installed_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "EXTRAS", {"dev": ("pytest",), "ray": ("nowhere_module",)})
    installed, absent = diagnosis._extras()
    assert installed.found == "installed"
    assert (absent.status, absent.remedy) == ("optional", "pip install 'keras_quant[ray]'")


def test_litert_adds_on_xnnpack_here() -> None:
    assert diagnosis._kernels_of_an_addition() == ("XNNPACK",)
    assert diagnosis._xnnpack().found == "yes"


def test_litert_without_xnnpack_is_slower_but_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_kernels_of_an_addition", lambda: ("builtin ADD",))
    check = diagnosis._xnnpack()
    assert (check.found, check.status) == ("no", "optional")
    assert "halves are rounded differently" in check.remedy


@pytest.mark.slow
@pytest.mark.tensorflow
def test_this_machine_has_all_that_is_required() -> None:
    checks = {check.name: check for check in diagnosis.diagnose()}
    assert [check for check in checks.values() if check.status == "missing"] == []
    assert checks["tf.keras"].found.startswith("tf_keras 2.")
    assert checks["XNNPACK in LiteRT"].found == "yes"
    assert checks["dataset digits"].status == "ok"

"""What is exported, as TensorBoard itself reads it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from keras_quant.errors import MissingDependencyError, UsageError
from keras_quant.runs.hparams import FILE_NAME, write_hparams
from keras_quant.runs.index import read_run
from tests.fake_runs import make_run


def test_without_tensorboard_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    run = read_run(make_run(tmp_path / "run"))
    with pytest.raises(MissingDependencyError, match=r"pip install 'keras_quant\[tensorboard\]'"):
        write_hparams([run], tmp_path / "hparams")
    assert not (tmp_path / "hparams").exists()


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run is left to export"):
        write_hparams([], tmp_path)


def events(path: Path) -> list:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    return list(LegacyEventFileLoader(str(path)).Load())


def test_settings_and_figures_come_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams import metadata

    run = dataclasses.replace(
        read_run(make_run(tmp_path / "run")), score=97.5, weight_bits=4, size_bytes=1000
    )
    other = read_run(make_run(tmp_path / "more" / "run"))
    files = write_hparams([run, other], tmp_path / "hparams")
    assert len({file.parent for file in files}) == 3  # of equal names too
    page, first, _ = (events(file) for file in files)
    content = page[1].summary.value[0].metadata.plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert {"model", "method", "weight bits"} <= {info.name for info in experiment.hparam_infos}
    assert [m.name.tag for m in experiment.metric_infos] == ["score", "size_bytes"]
    values = [value for event in first[1:] for value in event.summary.value]
    begin = metadata.parse_session_start_info_plugin_data(values[0].metadata.plugin_data.content)
    assert begin.hparams["model"].string_value == "mlp"
    assert begin.hparams["weight bits"].number_value == 4
    assert {v.tag: v.simple_value for v in values[1:-1]} == {"score": 97.5, "size_bytes": 1000}
    metadata.parse_session_end_info_plugin_data(values[-1].metadata.plugin_data.content)
    again = write_hparams([run, other], tmp_path / "hparams")
    assert again == files and all(file.name == FILE_NAME for file in files)

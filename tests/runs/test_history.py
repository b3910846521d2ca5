from __future__ import annotations

from pathlib import Path

import pytest

from keras_quant.errors import RunError
from keras_quant.runs.history import FILE_NAME, Epoch, read, to_csv


def epochs(metric: str) -> list[Epoch]:
    return [
        Epoch(
            epoch=number,
            loss=2.0 / number,
            score=0.25 * number,
            val_loss=3.0,
            val_score=0.125,
            learning_rate=1e-3,
            seconds=1.5,
            metric=metric,
        )
        for number in (1, 2)
    ]


@pytest.mark.parametrize("metric", ["accuracy", "psnr_db"])
def test_what_was_written_is_read(metric: str, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(to_csv(epochs(metric)))
    assert list(read(tmp_path)) == epochs(metric)


@pytest.mark.parametrize("text", [None, "", to_csv([])])
def test_no_epoch_is_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / FILE_NAME).write_text(text)
    assert read(tmp_path) == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("0.25", "much"),
        lambda text: text[:-20],
        lambda text: text.replace("val_loss", "loss_val"),
        lambda text: text.partition("\n")[2],
        lambda text: text + "\0\n",
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(damage, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text(damage(to_csv(epochs("accuracy"))))
    with pytest.raises(RunError, match=f"{FILE_NAME}: broken"):
        read(tmp_path)

"""What is printed of files of plain kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.cli.plain import export_and_print  # noqa: E402
from keras_quant.jobs import plain  # noqa: E402
from keras_quant.jobs.plain import PlainExport  # noqa: E402

SCORES = {"mean": {"loss": 1.5}, "log_variance": {"loss": 2.5}, "pixel_logits": {"loss": 99.0}}


def printed(
    scores: dict[str, dict[str, float]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> list[list[str]]:
    """The words of each line of the table."""
    made = PlainExport(
        format="tflite",
        path=Path("vae/export-fp16/model.tflite"),
        size_bytes=1000,
        images=10,
        rms=0.001,
        tolerance=0.01,
        agreement=None,
        scores=scores,
        keras_scores=scores,
        changed=3,
        kept={},
        kernels=("XNNPACK",),
    )
    monkeypatch.setattr(plain, "export_plain", lambda *a, **k: (made,))
    export_and_print(Path("vae"), "fp16", ("tflite",), as_json=False)
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_each_output_has_a_row_with_what_it_is_worth(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, heading, *rows = printed(SCORES, monkeypatch, capsys)
    assert "output" in heading
    assert [row[6:8] for row in rows] == [
        ["mean", "1.5"],
        ["log_variance", "2.5"],
        ["pixel_logits", "99"],
    ]


def test_a_single_output_is_not_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, heading, row = printed({"logits": {"loss": 1.5}}, monkeypatch, capsys)
    assert "output" not in heading and row[6:8] == ["1.5", "1.5"]
    _, _, row = printed({}, monkeypatch, capsys)
    assert row[0] == "tflite"

"""`kq engine`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keras_quant.cli.main import main
from tests.bench.boards import SHARED
from tests.bench.test_engine import TIMES, file_of, some_engine


def kq(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of a bundle."""
    results = tmp_path / "results"
    results.mkdir()
    (results / "layers.json").write_text(some_engine("11"))
    rows = [{"name": name, "averageMs": ms} for name, ms in TIMES]
    (results / "profile.json").write_text(json.dumps([{"count": 10}, *rows]))
    return results


def test_layers_totals_and_sentences_are_told(folder: Path) -> None:
    result = kq("engine", folder / "layers.json", "--profile", folder / "profile.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "inputs and outputs: image, logits"
    (line,) = (line for line in lines if line.startswith("Conv_2"))
    assert line.split()[4:] == [
        *("CaskConvolution", "products", "int8", "int8", "->", "int8", "400.0", "40.0%"),
        *("QuantizeLinear_1,", "Conv_2,", "Relu_3"),
    ]
    assert any(line.startswith("products in fp16") and "20.0%" in line for line in lines)
    assert "Most of the time takes Conv_2" in result.stdout


def test_a_bundle_stands_for_its_results(folder: Path) -> None:
    named = kq("engine", folder / "layers.json", "--profile", folder / "profile.json", "--json")
    for place in (folder, folder.parent):
        assert json.loads(kq("engine", place, "--json").stdout) == json.loads(named.stdout)


def test_without_times_the_way_to_them_is_told(folder: Path) -> None:
    result = kq("engine", folder / "layers.json")
    assert result.exit_code == 0
    assert "no times: give the file of trtexec --exportProfile with --profile" in result.stderr
    assert (
        json.loads(kq("engine", folder / "layers.json", "--json").stdout)["totals"][0]["share"]
        is None
    )


@pytest.mark.parametrize("timed", [True, False])
def test_the_picture_has_a_bar_a_layer(folder: Path, tmp_path: Path, timed: bool) -> None:
    if not timed:
        (folder / "profile.json").unlink()
    out = tmp_path / "pictures" / "engine.svg"
    result = kq("engine", folder, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"drew 8 layers: {out}" in result.stderr
    picture = out.read_text()
    assert picture.startswith("<?xml") and picture.rstrip().endswith("</svg>")
    assert [text for text in ("Conv_2 + 1 more", "copy for Conv_5") if text not in picture] == []


@pytest.mark.parametrize(
    ("content", "arguments", "exit_code", "helpful"),
    [
        (None, [], 1, "layers.json: cannot be read: No such file"),
        ("[]", [], 1, "layers.json: has no list of Layers"),
        (file_of(["conv1"]), [], 1, "--profilingVerbosity=detailed"),
        (some_engine(), ["--out", "engine.bmp"], 2, "engine.bmp: pictures end with .png, .svg"),
        (some_engine(), ["--profile", "gone.json"], 1, "gone.json: cannot be read"),
    ],
)
def test_bad_input_is_explained(
    tmp_path: Path, content: str | None, arguments: list[str], exit_code: int, helpful: str
) -> None:
    path = tmp_path / "layers.json"
    if content is not None:
        path.write_text(content)
    result = kq("engine", path, *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert helpful in result.stderr
    assert not Path("engine.bmp").exists()


def test_results_without_layers_are_told(folder: Path) -> None:
    (folder / "layers.json").unlink()
    result = kq("engine", folder.parent)
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        "has no layers.json, which bench.sh leaves; that of a bundle for TensorRT 8.2 does not"
        in (result.stderr)
    )


@pytest.mark.skipif(not (SHARED / "trex").is_dir(), reason="real recordings are not at hand")
def test_a_real_engine_is_read() -> None:
    trex = SHARED / "trex"
    result = kq(
        *("engine", trex / "resnet_qat_A100.graph.json"),
        *("--profile", trex / "resnet_qat_A100.profile.json", "--json"),
    )
    found = json.loads(result.stdout)
    assert len(found["engine"]["layers"]) == 37
    # 10 of the 12 reformats of that file have the origin QDQ.
    assert {one["kind"]: one["layers"] for one in found["totals"]} == {
        **{"products in int8": 21, "reformat": 2, "Q/DQ": 10, "pooling": 2, "nothing": 2}
    }
    assert found["costs"][0].startswith("Most of the time takes Conv_9 (products, int8) 18.4%")

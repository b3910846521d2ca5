"""Studies of trained nets, on Keras files of random weights and the digits."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from keras_quant.cli.main import main

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.tensorflow

from keras_quant.data import load_dataset  # noqa: E402
from keras_quant.errors import UsageError  # noqa: E402
from keras_quant.jobs.cut import cut_residuals  # noqa: E402
from keras_quant.jobs.ponder import ponder  # noqa: E402
from keras_quant.jobs.resolution import scale_inputs  # noqa: E402
from keras_quant.model.files import save_model  # noqa: E402
from keras_quant.runs import records  # noqa: E402
from keras_quant.runs.progress import Progress  # noqa: E402
from keras_quant.tf import keras  # noqa: E402
from keras_quant.zoo import build  # noqa: E402
from tests.anytime.asked import kq, parsed  # noqa: E402
from tests.fake_runs import RECORD, make_run  # noqa: E402

DIGITS = ("--dataset", "digits", "--images", "30")


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("nets"), {}
    keras.utils.set_random_seed(0)
    for name, options in (("sact_resnet", {"blocks": 2}), ("resnet8", {}), ("lenet5", {})):
        found[name] = folder / f"{name}.keras"
        save_model(build(name, (8, 8, 1), 10, **options), found[name])
    return found


def test_what_is_needed_lies_between_the_first_units_and_all(nets: dict[str, Path]) -> None:
    found, maps = ponder(
        nets["sact_resnet"], images="digits", count=20, maps=3, progress=Progress()
    )
    assert [stage.units for stage in found.stages] == [2, 2, 2]
    assert found.least_macs <= found.needed_macs <= found.most_macs <= found.macs
    assert maps.units.shape == (3, 8, 8) and maps.units.min() >= 3 and maps.units.max() <= 6
    assert (maps.fewest, maps.most) == (3, 6)
    assert found.images == 20 and found.accuracy is not None


@pytest.mark.slow
def test_halted_positions_need_no_second_convolution_and_the_first_one_around_the_others(
    nets: dict[str, Path], tmp_path: Path
) -> None:
    model = build("sact_resnet", (8, 8, 1), 10, blocks=2)
    for layer in model.layers:
        if layer.name.endswith("score_conv"):
            bias = 20.0 if layer.name.startswith("stage1") else -20.0
            layer.set_weights([0 * layer.get_weights()[0], np.array([bias], np.float32)])
    save_model(model, tmp_path / "halts.keras")
    found, maps = ponder(
        tmp_path / "halts.keras", images="digits", count=5, maps=5, progress=Progress()
    )
    # The second unit of stage 1 has two 3x3 convolutions of 16 channels at 8x8 positions.
    assert found.macs - found.needed_macs == 2 * 9 * 16 * 16 * 64
    assert [stage.on for stage in found.stages] == [(1, 0), (1, 1), (1, 1)]
    assert (maps.units == 5).all()


@pytest.mark.slow
def test_ponder_prints_and_draws(nets: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "maps.png"
    shown = kq("ponder", nets["sact_resnet"], *DIGITS, "--maps", "2", "--plot", picture)
    assert shown.exit_code == 0, shown.output
    assert "masked-dense" in shown.stdout and "stage3" in shown.stdout and picture.exists()


@pytest.mark.slow
def test_an_export_says_that_files_save_no_time(nets: dict[str, Path], tmp_path: Path) -> None:
    words = ("export", str(nets["sact_resnet"]), "--out", str(tmp_path / "out"), *DIGITS)
    shown = CliRunner().invoke(main, [*words, "--to", "tflite,onnx"])
    assert shown.exit_code == 0, shown.output
    assert "masked-dense: files compute all units at all positions" in shown.output
    assert "on average of 30 test images" in shown.output


@pytest.mark.slow
def test_cuts_are_measured_alone_and_from_both_ends(nets: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "cut.png"
    done = parsed(kq("cut", nets["resnet8"], *DIGITS, "--plot", picture, "--json"))
    (run,) = done["runs"]
    first, *_, last = run["blocks"]
    assert first["alone"] == first["up_to_here"] and last["alone"] == last["from_here"]
    assert first["from_here"] == last["up_to_here"]  # all are cut
    assert [block["link"] for block in run["blocks"]] == ["identity", "projection", "projection"]
    # A projection of 16 channels to 32 at 4x4 positions goes with its link.
    assert [block["macs"] for block in run["blocks"]] == [0, 16 * 32 * 16, 32 * 64 * 4]
    assert picture.exists()


@pytest.mark.slow
def test_cut_branches_save_their_convolutions(nets: dict[str, Path]) -> None:
    done = cut_residuals(
        [nets["resnet8"]], part="branch", dataset="digits", images=10, progress=Progress()
    )
    assert done.runs[0].blocks[0].macs == 2 * 9 * 16 * 16 * 64
    assert "stage1_block1_add" in kq("cut", nets["resnet8"], *DIGITS).stdout


@pytest.mark.slow
def test_a_net_with_global_pooling_costs_less_on_smaller_images(
    nets: dict[str, Path], tmp_path: Path
) -> None:
    picture = tmp_path / "resolution.png"
    words = ("resolution", nets["resnet8"], "--sizes", "4,6", *DIGITS)
    done = parsed(kq(*words, "--plot", picture, "--json"))
    (run,) = done["runs"]
    by = {(point["way"], *point["size"]): point for point in run["points"]}
    whole = by["whole", 8, 8]
    assert (
        by["averaged", 4, 4]["macs"]
        == by["resized", 4, 4]["macs"]
        == by["crop", 4, 4]["macs"]
        < whole["macs"] / 3
    )
    assert by["restored", 4, 4]["macs"] == by["crop-enlarged", 6, 6]["macs"] == whole["macs"]
    assert len(run["points"]) == 1 + 5 * 2 and run["refused"] == [] and picture.exists()


def test_a_net_that_flattens_is_asked_for_images_of_its_own_size_alone(
    nets: dict[str, Path],
) -> None:
    shown = kq("resolution", nets["lenet5"], "--sizes", "4", "--ways", "resized,restored", *DIGITS)
    assert shown.exit_code == 0, shown.output
    assert "resized, and back" in shown.stdout and "(Dense) does not take" in shown.output


def test_each_size_is_refused_in_each_way(nets: dict[str, Path]) -> None:
    words = ("resolution", nets["lenet5"], "--sizes", "4,6", "--ways", "resized,crop", *DIGITS)
    (run,) = parsed(kq(*words, "--json"))["runs"]
    refused = [(one["way"], one["size"]) for one in run["refused"]]
    assert refused == [(way, [size, size]) for way in ("resized", "crop") for size in (4, 6)]
    assert all("(Dense) does not take" in one["reason"] for one in run["refused"])
    told = kq(*words).output
    assert "resized, net for that size, 4x4: not possible: " in told
    assert "resized, net for that size, 6x6: not possible: " in told


@pytest.mark.parametrize("study", [cut_residuals, scale_inputs])
def test_what_does_not_fit_is_told_before_any_is_asked(
    nets: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    study: Callable[..., object],
) -> None:
    def asked(*_: object) -> int:
        raise AssertionError("a model was asked")

    monkeypatch.setattr(sys.modules[study.__module__], "right_answers", asked)
    digits = load_dataset("digits")
    parts = {"train": digits.train, "test": digits.test}
    arrays = {f"{axis}_{part}": getattr(of, axis) for part, of in parts.items() for axis in "xy"}
    np.savez(tmp_path / "mine.npz", **arrays)
    runs = []
    for name in ("digits", str(tmp_path / "mine.npz")):
        run = make_run(tmp_path / Path(name).stem)
        records.save(replace(RECORD, dataset=replace(RECORD.dataset, name=name)), run)
        shutil.copyfile(nets["resnet8"], run / "model.keras")
        runs.append(run)
    with pytest.raises(UsageError, match=r"of different data \(digits, .*mine.npz\); give one"):
        study(runs, progress=Progress())
    if study is cut_residuals:
        files = [nets["resnet8"], nets["lenet5"]]
        with pytest.raises(UsageError, match="^[^,]*lenet5.keras: no residual blocks there"):
            study(files, dataset="digits", progress=Progress())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ponder", "resnet8", *DIGITS), "no position of its model halts"),
        (("ponder", "sact_resnet", "folder", *DIGITS), "both name images"),
        (("cut", "lenet5", *DIGITS), "no residual blocks there"),
        (("cut", "resnet8", "--cut", "lnk", *DIGITS), "--cut is lnk; close names: link; link or"),
        (("resolution", "resnet8", "--sizes", "8", *DIGITS), "8; 1 to 7 pixels are allowed"),
        (("resolution", "resnet8", "--sizes", "big", *DIGITS), "--sizes is 'big'; give pixels"),
        (("resolution", "resnet8", "--ways", "crap", *DIGITS), "no way crap; close names: crop"),
    ],
)
def test_wrong_words_are_told(nets: dict[str, Path], words: tuple[str, ...], message: str) -> None:
    shown = kq(words[0], nets[words[1]], *words[2:])
    assert shown.exit_code == 2 and message in shown.output, shown.output


def test_a_lone_file_is_asked_for_images_that_are_named(nets: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="belongs to no run: say which data with --dataset"):
        cut_residuals([nets["resnet8"]], progress=Progress())

"""The table of boards: what is computed of its figures, and how names are found."""

from __future__ import annotations

import pytest

from keras_quant.errors import UsageError
from keras_quant.targets.jetson import BOARDS, PRECISIONS, find_board, find_mode

# Dense peaks and bandwidths as NVIDIA's data sheets round them.
DATA_SHEETS = [
    ("nano", "MAXN", "fp16", 0.47, 25.6),
    ("tx1", "MAXN", "fp16", 1.0, 25.6),
    ("tx2", "MAXN", "fp16", 1.33, 59.7),
    ("xavier-nx", "20W_6CORE", "int8", 13.6, 59.7),
    ("agx-xavier", "MAXN", "int8", 22.6, 136.5),
    ("orin-nano-4gb", "10W", "int8", 10, 34),
    ("orin-nano", "15W", "int8", 20, 68),
    ("orin-nano", "MAXN_SUPER", "int8", 33.5, 102),
    ("orin-nx-8gb", "MAXN", "int8", 25, 102.4),
    ("orin-nx", "MAXN", "int8", 30, 102.4),
    ("agx-orin-32gb", "MAXN", "int8", 54, 204.8),
    ("agx-orin", "MAXN", "int8", 85, 204.8),
    ("thor", "MAXN", "fp16", 258, 273),
]
ROUNDED = 0.03


@pytest.mark.parametrize(("board", "mode", "precision", "tops", "gb_s"), DATA_SHEETS)
def test_peaks_are_those_of_the_data_sheets(
    board: str, mode: str, precision: str, tops: float, gb_s: float
) -> None:
    found = find_board(board)
    set_to = find_mode(board, mode)
    assert found.peak_tops(set_to, precision) == pytest.approx(tops, rel=ROUNDED)
    assert found.bandwidth_gb_s(set_to) == pytest.approx(gb_s, rel=ROUNDED)


@pytest.mark.parametrize("name", BOARDS)
def test_figures_of_a_board_fit_together(name: str) -> None:
    board = BOARDS[name]
    fastest = board.modes[0]
    assert fastest.sms == board.sms
    for mode in board.modes:
        assert mode.sms <= board.sms
        assert board.peak_tops(mode, "fp16") <= board.peak_tops(fastest, "fp16")
    assert bool(board.tensor_cores) == bool(board.generation.tensor)
    assert board.int8 == ("int8" in board.generation.tensor) == ("int8" in board.precisions)
    assert set(board.precisions) <= set(PRECISIONS)


@pytest.mark.parametrize("name", BOARDS)
def test_each_figure_of_a_board_has_a_source(name: str) -> None:
    board = BOARDS[name]
    figures = (
        "gpu",
        "compute_capability",
        "int8",
        "sms",
        "tensor_cores",
        "memory_bits",
        "dla_cores",
    )
    sources = [board.sources[figure] for figure in figures]
    sources += [one.source for one in (*board.modes, *board.jetpacks)]
    sources += board.generation.sources.values()
    assert all(source.text for source in sources)


def test_no_name_of_a_power_mode_means_two() -> None:
    for board in BOARDS.values():
        names = [name for mode in board.modes for name in (mode.name, *mode.also)]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["MODE_15W_DESKTOP", "15w_desktop", "15W"])
def test_a_mode_is_found_as_nvpmodel_calls_it(name: str) -> None:
    assert find_mode("agx-xavier", name).gpu_mhz == 675.75


def test_without_a_name_the_fastest_mode_is_taken() -> None:
    assert find_mode("orin-nano", None).name == "MAXN_SUPER"


def test_unknown_names_get_those_that_are_known() -> None:
    with pytest.raises(UsageError, match="'orin_nano' is not known; close names: orin-nano"):
        find_mode("orin_nano", None)
    with pytest.raises(UsageError, match="'40W' is none of orin-nano; it has MAXN_SUPER, 25W"):
        find_mode("orin-nano", "40W")

"""kq boards: the Jetson boards that are known, and where their figures are from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.targets.jetson import Board, Source


@click.command()
@click.argument("name", required=False)
@json_option
def boards(name: str | None, as_json: bool) -> None:
    """List Jetson boards: GPU, clocks, peaks, bandwidth, int8, DLA, JetPack.

    With NAME, that board in each of its power modes, and the source of each figure. Peaks are
    dense, of products of matrices, in the fastest mode; fp32 is TF32 where tensor cores have it,
    as TensorRT uses it.

    \b
    Examples:
      kq boards
      kq boards orin-nano
    """
    from keras_quant.targets.jetson import BOARDS, find_board

    if name is not None:
        board = find_board(name)
        print_json({"name": name, **_plain(board)}) if as_json else _print_board(name, board)
        return
    if as_json:
        print_json({known: _plain(board) for known, board in BOARDS.items()})
        return
    print_table(
        (
            *("board", "GPU", "SMs", "tensor cores", "GHz", "fp32 TFLOPS", "fp16 TFLOPS"),
            *("int8 TOPS", "GB/s", "DLAs", "JetPack: TensorRT", "power modes"),
        ),
        [_row(known, board) for known, board in BOARDS.items()],
    )
    note("sources: kq boards NAME")


def _row(name: str, board: Board) -> tuple[object, ...]:
    mode = board.modes[0]
    return (
        *(name, f"{board.gpu} {board.compute_capability}", board.sms, board.tensor_cores),
        f"{mode.gpu_mhz / 1e3:.3g}",
        *(f"{board.peak_tops(mode, one):.3g}" for one in ("fp32", "fp16")),
        f"{board.peak_tops(mode, 'int8'):.3g}" if board.int8 else None,
        f"{board.bandwidth_gb_s(mode):.1f}",
        board.dla_cores,
        "; ".join(f"{one.release}: {one.tensorrt}" for one in board.jetpacks),
        ", ".join(one.name for one in board.modes),
    )


def _print_board(name: str, board: Board) -> None:
    texts: list[str] = []

    def of(source: Source) -> str:
        """The number of a source in the list below."""
        if str(source) not in texts:
            texts.append(str(source))
        return f"[{texts.index(str(source)) + 1}]"

    figures = (
        ("GPU", f"{board.gpu}, {board.generation.cores * board.sms:,} cores", "gpu"),
        ("compute capability", board.compute_capability, "compute_capability"),
        ("multiprocessors (SMs)", board.sms, "sms"),
        ("tensor cores", board.tensor_cores, "tensor_cores"),
        ("int8 in TensorRT", "yes" if board.int8 else "no", "int8"),
        ("DLA cores", board.dla_cores, "dla_cores"),
        ("memory bus, bits", board.memory_bits, "memory_bits"),
    )
    print_table(
        ("figure", "value", "source"),
        [
            *((what, str(value), of(board.sources[figure])) for what, value, figure in figures),
            *(
                (f"multiply-adds an SM and clock, {unit}", f"{rate:,}", of(source))
                for unit, rate, source in _rates(board)
            ),
            *(
                (f"JetPack {one.release}", f"TensorRT {one.tensorrt}", of(one.source))
                for one in board.jetpacks
            ),
        ],
        title=f"{name}: {board.title}",
    )
    print_table(
        (
            *("power mode", "SMs", "GPU MHz", "memory MHz", "GB/s"),
            *("fp32 TFLOPS", "fp16 TFLOPS", "int8 TOPS", "clocks"),
        ),
        [
            (
                *(", ".join((mode.name, *mode.also)), mode.sms, f"{mode.gpu_mhz:g}"),
                *(f"{mode.memory_mhz:g}", f"{board.bandwidth_gb_s(mode):.1f}"),
                *(f"{board.peak_tops(mode, one):.3g}" for one in ("fp32", "fp16")),
                f"{board.peak_tops(mode, 'int8'):.3g}" if board.int8 else None,
                of(mode.source),
            )
            for mode in board.modes
        ],
    )
    for number, text in enumerate(texts, start=1):
        click.echo(f"[{number}] {text}")
    note("recalled: written down from knowledge of the page, which was not read again")


def _rates(board: Board) -> list[tuple[str, int, Source]]:
    generation = board.generation
    return [
        (f"{unit} {name}", rate, generation.sources[f"{unit}.{name}"])
        for unit, rates in (("cuda", generation.cuda), ("tensor", generation.tensor))
        for name, rate in rates.items()
    ]


def _plain(board: Board) -> dict[str, Any]:
    """A board as JSON has it, with what is computed of its figures."""
    from dataclasses import asdict

    modes = [
        asdict(mode)
        | {
            "bandwidth_gb_s": board.bandwidth_gb_s(mode),
            "peak_tops": {one: board.peak_tops(mode, one) for one in board.precisions},
        }
        for mode in board.modes
    ]
    return asdict(board) | {"modes": modes, "tensorrt": board.tensorrt}

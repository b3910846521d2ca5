"""kq check: an ONNX file against what a target takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_quant.cli.output import json_option, note, print_json, print_table
from keras_quant.targets.jetson import BOARDS

if TYPE_CHECKING:
    from keras_quant.targets.report import BuilderReport, Finding

TARGETS = ("tensorrt",)
BUILD_SECONDS = 600
"""How long NVIDIA's builder may take; it took 4 s for a resnet50."""
_CHECKS = "keras_quant.targets.check"


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--target", default="tensorrt", show_default=True, help="tensorrt.")
@click.option(
    "--trt", "version", help="TensorRT's version: 8.2, 8.5, 8.6, 10.3, 10.13, 10.16, 11.4."
)
@click.option("--board", help=f"Jetson module: {', '.join(BOARDS)}.")
@click.option("--dla", is_flag=True, help="It is to run on the board's DLA.")
@json_option
def check(
    path: Path, target: str, version: str | None, board: str | None, dla: bool, as_json: bool
) -> None:
    """Check an ONNX file against the rules of a target, with sources and remedies.

    Then it predicts what of a valid file will cost time: float islands, values that are kept as
    codes and as floats, padded channels, products smaller than a tile, scales that change.

    Where the extra `tensorrt` is installed, NVIDIA's parser and builder are run too, without a
    GPU; in a child process, as all that reads the file. Exit code 1 means that the file would be
    rejected.

    \b
    Examples:
      kq check model.onnx --target tensorrt
      kq check model.onnx --trt 8.5 --board xavier-nx
    """
    from keras_quant.errors import ModelError, UsageError, close_names

    if target not in TARGETS:
        raise UsageError(
            f"--target {target!r} is not known{close_names(target, TARGETS)}; targets are "
            f"{', '.join(TARGETS)}"
        )
    from keras_quant.runners.child import Child, limits_for
    from keras_quant.targets.builder import EXTRA, builder_is_installed
    from keras_quant.targets.report import BuilderReport, RulesReport, is_rejected

    report = None
    with Child(path, limits_for(path)) as child:
        findings = child.call(
            f"{_CHECKS}:check_file", RulesReport, version=version, board=board, dla=dla
        ).findings
        if builder_is_installed():
            try:
                report = child.call(f"{_CHECKS}:build_file", BuilderReport, seconds=BUILD_SECONDS)
            except ModelError:
                if not as_json:
                    _print(path, findings, None)
                raise
    if as_json:
        print_json({"findings": findings, "builder": report})
    else:
        _print(path, findings, report)
        if report is None:
            note(f"to run NVIDIA's own builder too: pip install 'keras_quant[{EXTRA}]'")
    if is_rejected(findings) or (report is not None and report.rejected):
        raise ModelError(f"{path}: TensorRT would reject this file")


def _counted(found: Sequence[Finding], noun: str) -> str:
    return f"{len(found)} {noun}{'s' * (len(found) > 1)}"


def _print_findings(title: str, found: Sequence[Finding]) -> None:
    rows = [(f.rule, f.effect, f.node, f.op, f.what) for f in found]
    print_table(("rule", "effect", "node", "operator", "what"), rows, title=title)
    click.echo()
    remedies = dict.fromkeys((f.rule, f.remedy, f.source) for f in found)
    print_table(("rule", "remedy", "source"), list(remedies))
    click.echo()


def _print(path: Path, findings: tuple[Finding, ...], report: BuilderReport | None) -> None:
    from keras_quant.targets.report import broken

    wrong = broken(findings)
    costly = [finding for finding in findings if finding not in wrong]
    if wrong:
        _print_findings(f"{path}: {_counted(wrong, 'finding')}", wrong)
    else:
        click.echo(f"{path}: no rule is broken")
    if costly:
        _print_findings(f"{_counted(costly, 'thing')} in it will cost time (predicted)", costly)
    if report is None:
        return
    title = (
        f"TensorRT for RTX {report.version}, compute capability {report.compute_capability}: "
        "strong evidence for other GPUs, no proof"
    )
    if report.rejected:
        print_table(("rejected by NVIDIA's parser or builder",), [(r,) for r in report.rejected])
    else:
        layers = [(layer.name, layer.op, layer.precision) for layer in report.layers]
        print_table(("layer", "operator", "runs in"), layers, title=title)

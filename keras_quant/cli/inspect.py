"""kq inspect: what each layer costs, and what the integer graph is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from keras_quant.cli.options import overrides_option, parse_shape
from keras_quant.cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from keras_quant.emit.tflite.sizes import FileBytes
    from keras_quant.graph.costs.cost import GraphCost
    from keras_quant.jobs.inspection import Inspection

_COLUMNS = (
    *("layer", "operation", "output", "parameters", "MACs", "weight bits", "activation bits"),
    *("bit operations", "weight bytes", "file bytes", "live bytes", "energy (nJ)"),
)


@click.command()
@click.argument("target")
@click.option("--graph", "as_graph", is_flag=True, help="Print the graph, one node a line.")
@click.option("--bits", help="Bits of a zoo model: 4, w4a8, ...")
@click.option("--scheme", help="Preset or scheme file for a zoo model.")
@overrides_option
@click.option(
    "--dataset",
    help="Whose image shape and classes a zoo model gets [default: digits; the classes of its "
    "paper where --input-shape is given].",
)
@click.option(
    "--input-shape",
    metavar="H,W,C",
    callback=parse_shape,
    help="Of a Keras file that takes images of any size, or of a zoo model.",
)
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def inspect(
    target: str,
    as_graph: bool,
    as_json: bool,
    trust: bool,
    dataset: str | None,
    input_shape: tuple[int, ...] | None,
    **bits: Any,
) -> None:
    """Show what each layer costs: parameters, MACs, bits, bytes, memory, energy; or the graph.

    TARGET is a run, a .kqgraph, .keras or .h5 file, a SavedModel, or a model of the zoo. Weight
    bytes are kernels at their logical bits with scales and biases; file bytes the constants in the
    TFLite file; live bytes the activations that exist while a layer runs, codes in int8; activation
    bits those of a layer's input. Energy is no measurement but a model of 45 nm hardware
    (Horowitz, ISSCC 2014), for comparing.

    \b
    Examples:
      kq inspect models/digits-cnn-w4a4
      kq inspect models/digits-cnn-w4a4/export/model.kqgraph --graph
      kq inspect resnet20 --bits w4a8 --dataset cifar10
      kq inspect resnet50 --input-shape 224,224,3
    """
    from keras_quant.cli.train_options import choose_scheme
    from keras_quant.graph.text import describe_nodes, format_graph
    from keras_quant.jobs.inspection import file_of, graph_of
    from keras_quant.jobs.inspection import inspect as inspect_graph

    scheme = None
    if bits["bits"] or bits["scheme"] or bits["overrides"]:
        scheme = choose_scheme(**bits)
    graph = graph_of(
        target, scheme=scheme, dataset=dataset, input_shape=input_shape, trust=trust, say=note
    )
    if as_graph:
        print_json(describe_nodes(graph)) if as_json else click.echo(format_graph(graph))
        return
    found = inspect_graph(graph, file=file_of(target))
    if found.file_problem:
        note(f"no TFLite file, so no file bytes: {found.file_problem}")
    if as_json:
        print_json({**asdict(found.cost), "file": found.file})
        return
    print_table(_COLUMNS, _layer_rows(found), title=target)
    print_table(("figure", "value"), [*_totals(found.cost), *_of_file(found.file)])


def _layer_rows(found: Inspection) -> list[tuple[object, ...]]:
    """A line for each layer, one for what is in the file besides layers, and the totals."""
    total, file = found.cost, found.file
    rows: list[tuple[object, ...]] = [
        (
            node.name,
            node.op,
            "x".join(map(str, node.shape)),
            node.parameters,
            node.macs,
            "float" if node.weight_bits == 32 else node.weight_bits,
            "float" if node.activation_bits == 32 else node.activation_bits,
            node.bit_operations,
            node.weight_bytes,
            file and file.layers[node.name],
            node.live_bytes,
            f"{node.energy_nj:,.1f}",
        )
        for node in total.nodes
    ]
    if file:
        rows.append(("(rest of the file)", *[None] * 8, file.structure, None, None))
    rows.append(
        (
            *("total", None, None, total.parameters, total.macs, None, None),
            *(total.bit_operations, total.weight_bytes, file and file.total),
            *(f"{total.peak_live_bytes:,} (peak)", f"{total.energy_nj:,.1f}"),
        )
    )
    return rows


def _totals(total: GraphCost) -> list[tuple[str, str]]:
    """What the table has no column for."""
    return [
        ("peak of live activations, codes in int8", f"{total.peak_live_bytes:,} bytes"),
        ("peak of live activations, logical bits", f"{total.peak_live_logical_bytes:,} bytes"),
        ("kernel values that are 0", f"{total.zeros:,} of {total.parameters:,} parameters"),
        ("energy of arithmetic, modelled", f"{total.arithmetic_nj:,.1f} nJ"),
        (
            "energy of memory, modelled",
            f"{total.memory_nj:,.1f} nJ (weights in {total.weight_memory}, activations in "
            f"{total.activation_memory})",
        ),
    ]


def _of_file(file: FileBytes | None) -> list[tuple[str, str]]:
    if file is None:
        return []
    return [("TFLite file as gzip packs it", f"{file.gzip:,} of {file.total:,} bytes")]

"""kq inspect: what each layer costs."""

from __future__ import annotations

from typing import Any

import click

from keras_quant.cli.output import json_option, print_json, print_table


@click.command()
@click.argument("target")
@click.option("--bits", help="Bits of a zoo model: 4, w4a8, ...")
@click.option("--scheme", help="Preset or scheme file for a zoo model.")
@click.option("--set", "overrides", multiple=True, metavar="PATTERN=BITS", help="On top of it.")
@click.option("--dataset", help="Whose image shape and classes a zoo model gets [default: digits].")
@click.option("--trust", is_flag=True, help="Load a Keras file that holds code.")
@json_option
def inspect(target: str, as_json: bool, trust: bool, dataset: str | None, **bits: Any) -> None:
    """Show shape, parameters, MACs, bits, bit operations and bytes of each layer.

    TARGET is a run, a .keras or .h5 file, or a model of the zoo. Bytes are those of kernels
    at their logical bits, with scales and biases; activation bits are those of a layer's
    input.

    \b
    Examples:
      kq inspect models/digits-cnn-w4a4
      kq inspect resnet20 --bits w4a8 --dataset cifar10
    """
    from keras_quant.cli.train_options import choose_scheme
    from keras_quant.graph.cost import cost
    from keras_quant.inspection import graph_of

    scheme = None
    if bits["bits"] or bits["scheme"] or bits["overrides"]:
        scheme = choose_scheme(**bits)
    total = cost(graph_of(target, scheme=scheme, dataset=dataset, trust=trust))
    if as_json:
        print_json(total)
        return
    columns = ("layer", "operation", "output", "parameters", "MACs", "weight bits")
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
        )
        for node in total.nodes
    ]
    rows.append(
        (
            *("total", None, None, total.parameters, total.macs, None, None),
            *(total.bit_operations, total.weight_bytes),
        )
    )
    print_table((*columns, "activation bits", "bit operations", "bytes"), rows, title=target)

"""kq datasets: what can be named with --dataset."""

from __future__ import annotations

import dataclasses

import click

from keras_quant.cli.output import json_option, note, print_json, print_table


@click.command()
@json_option
def datasets(as_json: bool) -> None:
    """List the datasets known by name.

    \b
    Example:
      kq datasets
    """
    from keras_quant.data.catalog import DATASETS, is_available

    if as_json:
        print_json(
            {
                name: {**dataclasses.asdict(info), "available": is_available(name)}
                for name, info in DATASETS.items()
            }
        )
        return
    print_table(
        ("name", "classes", "shape", "train", "test", "on this machine", "origin"),
        [
            (
                name,
                info.num_classes,
                "x".join(map(str, info.input_shape)),
                info.num_train,
                info.num_test,
                "yes" if is_available(name) else "no",
                info.origin,
            )
            for name, info in DATASETS.items()
        ],
    )
    note("Missing ones are downloaded, or put NAME.npz into $KQ_DATA_DIR or ~/.keras/datasets.")
    note("--dataset also takes a path: your own .npz, or a folder with one folder a class.")
    note(
        "Behind either, +noise25 adds noise to pixels, for models that take it out again, +elbo is "
        "for a variational autoencoder, and +16px averages images to 16 pixels at their shorter "
        "side."
    )

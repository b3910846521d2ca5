"""kq models: what can be named with --model."""

from __future__ import annotations

import click

from keras_quant.cli.output import json_option, note, print_json, print_table


@click.command()
@json_option
def models(as_json: bool) -> None:
    """List the models known by name.

    \b
    Example:
      kq models
    """
    from keras_quant.zoo.catalog import MODELS

    if as_json:
        print_json(
            {
                name: {
                    "description": info.description,
                    "options": info.options,
                    "min_size": info.min_size,
                }
                for name, info in MODELS.items()
            }
        )
        return
    print_table(
        ("name", "smallest image", "options", "description"),
        [
            (
                name,
                f"{info.min_size}x{info.min_size}",
                ", ".join(f"{key}={option.default}" for key, option in info.options.items()),
                info.description,
            )
            for name, info in MODELS.items()
        ],
    )
    note("--model also takes a function of yours, as my_file.py:build_fn.")

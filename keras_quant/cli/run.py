"""kq run: the commands of a recipe, and the table that they make."""

from __future__ import annotations

from pathlib import Path

import click

from keras_quant.cli.output import json_option, note, print_json, print_table


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--scale", default="small", show_default=True, help="One of the recipe's.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results [default: reports/NAME].",
)
@click.option("--overwrite", is_flag=True, help="Run steps again that were done.")
@json_option
def run(recipe: Path, scale: str, out: Path | None, overwrite: bool, as_json: bool) -> None:
    """Run the commands of a recipe, and set their figures beside published ones.

    A recipe is a file of kq commands and of the table to print; docs/recipes.md says how one is
    written. Writes reports/NAME/results.md, .csv and .json, and a picture. A recipe that was
    stopped goes on where it was.

    \b
    Example:
      kq run recipes/plain-kinds.yaml --scale small
    """
    from keras_quant.cli.steps import problems_of_steps
    from keras_quant.jobs.recipe import figure, headings, run_recipe
    from keras_quant.plots.draw import save
    from keras_quant.plots.recipe import draw_results
    from keras_quant.runs.progress import Progress

    results, folder = run_recipe(
        recipe,
        scale=scale,
        out=out,
        overwrite=overwrite,
        check=problems_of_steps,
        progress=Progress(),
    )
    save(draw_results(results), folder / "results.png")
    note(f"wrote {folder}/results.md, .csv, .json and .png")
    if as_json:
        print_json(results)
        return
    print_table(
        ("", *headings(results.columns)),
        [
            (row, *(figure(cells[name], unit) for name, unit in results.columns.items()))
            for row, cells in results.rows.items()
        ],
        title=f"{results.title}: {results.scale}",
    )
    if results.published:
        click.echo()
        print_table(
            ("", *headings(results.published_columns)),
            [
                (row, *(cells.get(name) for name in results.published_columns))
                for row, cells in results.published.items()
            ],
            title=f"published: {results.source}",
        )
    for text in results.differs:
        note(f"{'differs' if results.published else 'note'}: {text}")

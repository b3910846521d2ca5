"""Writes reports: index.html, which holds its pictures, or report.md with pictures beside it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from keras_quant.errors import UsageError
from keras_quant.files import make_folder, write_text, write_together
from keras_quant.plots.style import plain_texts
from keras_quant.report.content import Report
from keras_quant.report.table import Table

FORMATS = ("html", "md")
_DPI = 144


def write_report(report: Report, folder: Path, *, form: str = "html") -> Path:
    """Writes a report into a folder, which is made.

    Args:
        form: one of FORMATS.
    Returns: the page.
    Raises:
        UsageError: there is no such format.
        FileError: the system refuses.
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form}: formats are {', '.join(FORMATS)}")
    make_folder(folder)
    if form == "html":
        path = folder / "index.html"
        write_text(path, to_html(report))
        return path
    path = folder / "report.md"
    pictures = {folder / f"{picture.name}.png": _png(picture.figure) for picture in report.pictures}
    write_together({**pictures, path: to_markdown(report).encode()})
    return path


def to_html(report: Report) -> str:
    """The report as one page, without anything from elsewhere."""
    pictures = [
        {"title": picture.title, "name": picture.name, "data": _data_url(picture.figure)}
        for picture in report.pictures
    ]
    template = _templates(escape=True).get_template("page.html.jinja")
    return template.render(report=report, pictures=pictures)


def to_markdown(report: Report) -> str:
    """The report as Markdown, with the names of its pictures."""
    template = _templates(escape=False).get_template("report.md.jinja")
    return template.render(report=report, rows=_markdown_rows)


def _templates(*, escape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("keras_quant.report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _markdown_rows(table: Table) -> list[list[str]]:
    """Texts of a table's cells, in which nothing ends a cell."""
    return [
        [cell.text.replace("|", "\\|").replace("\n", " ") for cell in row] for row in table.rows
    ]


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with plain_texts():
        figure.savefig(stream, format="png", dpi=_DPI)
    return stream.getvalue()


def _data_url(figure: Figure) -> str:
    return "data:image/png;base64," + base64.b64encode(_png(figure)).decode()

"""The graphs of several widths, out of the one file that holds them."""

from __future__ import annotations

from pathlib import Path

from keras_quant.errors import RunError, UsageError, close_names
from keras_quant.files import write_together
from keras_quant.graph.nested import FILE_NAME, load_nested
from keras_quant.graph.store import SUFFIX, pack_graph


def unpack(
    file: Path, folder: Path, *, width: str | None = None, overwrite: bool = False
) -> dict[str, Path]:
    """Writes the graph of each width, to the byte that of its run.

    Args:
        file: of `graph.nested.pack_nested`'s bytes, or the run's folder that has it.
        width: of this one alone.
        overwrite: replace files that are there.
    Returns: the files, by the names of widths.
    Raises:
        GraphError: the file cannot be read.
        UsageError: it has no such width, or one whose name is none of a file.
        RunError: files are there already.
        FileError: the folder cannot be written.
    """
    if file.is_dir():
        file = file / FILE_NAME
    graphs = load_nested(file)
    if width is not None and width not in graphs:
        raise UsageError(
            f"{file}: has no width {width!r}{close_names(width, graphs)}; it has "
            f"{', '.join(graphs)}"
        )
    wanted = graphs if width is None else {width: graphs[width]}
    odd = [name for name in wanted if Path(name).name != name or name in ("", ".", "..")]
    if odd:
        raise UsageError(f"{file}: names no file can have: {', '.join(map(repr, odd))}")
    paths = {name: folder / f"{name}{SUFFIX}" for name in wanted}
    taken = [str(path) for path in paths.values() if path.exists()]
    if taken and not overwrite:
        raise RunError(
            f"{', '.join(taken)}: there already. Give --out FOLDER for another place, or "
            "--overwrite to replace them"
        )
    write_together({paths[name]: pack_graph(graph) for name, graph in wanted.items()})
    return paths

"""Runs the notebooks, each in an empty folder, and writes their outputs into them.

python notebooks/execute.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = tuple(sorted(Path(__file__).parent.glob("*.ipynb")))
# What readers need to know of a kernel; the machine's own would be written otherwise.
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_TIMEOUT_SECONDS = 600


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs all cells of a notebook in order, in a fresh kernel.

    Args:
        folder: the working folder of the kernel.
    Returns: the notebook with its new outputs, which name neither times nor the kernel.
    Raises:
        nbclient.exceptions.CellExecutionError: a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT_SECONDS, resources=resources, record_timing=False
    )
    client.execute()
    notebook.metadata = nbformat.from_dict(KERNEL)
    return notebook


def main() -> None:
    """Refreshes all notebooks."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(execute(path, Path(folder)), path)


if __name__ == "__main__":
    main()

from __future__ import annotations

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

from notebooks.execute import KERNEL, NOTEBOOKS, execute  # noqa: E402

ROOT = Path(__file__).parent.parent
TRAINING_TO_TARGETS = "from_training_to_three_targets"
PLACES = ("/home/", "/root/", "/tmp/", "/Users/", "C:\\")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader sees of each output: printed text, or the richest form of a value."""
    texts = []
    for output in (output for cell in code_cells(notebook) for output in cell.outputs):
        data = output.get("data", {})
        texts.append(output.get("text") or data.get("text/markdown") or data.get("text/plain", ""))
    return texts


def test_notebook_from_training_to_targets_is_there() -> None:
    assert TRAINING_TO_TARGETS in [path.stem for path in NOTEBOOKS]


@every_notebook
def test_outputs_are_those_of_one_run_without_errors(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "stream"}
    assert not [output for output in outputs if output.get("name") == "stderr"]


@every_notebook
def test_outputs_name_no_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == KERNEL
    assert not any(cell.metadata for cell in notebook.cells)
    assert not [(place, text) for text in shown(notebook) for place in PLACES if place in text]


@pytest.mark.slow
@pytest.mark.tensorflow
@every_notebook
def test_notebook_runs_in_an_empty_folder(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executed = execute(path, tmp_path)
    committed = nbformat.read(path, as_version=4)
    assert [bool(cell.outputs) for cell in code_cells(executed)] == [
        bool(cell.outputs) for cell in code_cells(committed)
    ]

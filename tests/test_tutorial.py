"""docs/tutorial.ipynb runs from the first cell to the last, and stands as benchmarks/docs/tutorial.py left it."""

from pathlib import Path
from typing import Any

import pytest

from carso import weights
from carso.audit import read_audit

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def test_it_is_small_and_committed_with_its_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 1e6
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum("text/html" in output.get("data", {}) for cell in code for output in cell.outputs) >= 3
    assert not [output for cell in code for output in cell.outputs if output.output_type in ("error", "stream")]


def test_the_audit_that_it_shows_is_the_one_that_ships() -> None:
    last = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"][-1]
    (shown,) = last.outputs
    assert shown["data"]["text/plain"] == repr(read_audit(weights.find("mnist-thesis"))), (
        "run benchmarks/docs/tutorial.py"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_runs(tmp_path: Path) -> None:
    """In an empty folder: it needs the package and no clone."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    before = kinds(notebook)
    elsewhere = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=elsewhere).execute()
    assert kinds(notebook) == before


def kinds(notebook: Any) -> list[list[list[str]]]:
    """What each cell shows, but for the progress that it tells on the way."""
    return [
        [sorted(output["data"]) for output in cell.outputs if output.output_type != "stream"]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]

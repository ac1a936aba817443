"""The notebook: committed without outputs, and running from its first cell to its last."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebooks" / "first_agent.ipynb"
TEXT = NOTEBOOK.read_text(encoding="utf-8")


def test_it_is_committed_without_outputs_and_in_short_cells():
    notebook = nbformat.reads(TEXT, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert max(len(cell.source.splitlines()) for cell in cells) <= 20


@pytest.mark.slow
def test_it_runs_without_a_network(tmp_path, monkeypatch):
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    text = TEXT.replace("runs/first_agent", (tmp_path / "run").as_posix())
    assert text != TEXT
    notebook = nbformat.reads(text, as_version=4)
    resources = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    cells = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    kinds = {kind for outputs in cells.values() for output in outputs for kind in output.get("data", {})}
    assert {"image/gif", "image/png"} <= kinds
    table = {line[:20].strip(): float(line[20:29]) for line in printed(cells["table"]).splitlines()[1:]}
    assert set(table) == {"agent", "myopic exact", "stochastic DP", "clairvoyant bound"}
    assert max(table.values()) == table["clairvoyant bound"]
    assert printed(cells["mine"]).count("0.") == 3


def printed(outputs):
    """What a cell has printed."""
    return "".join(output.text for output in outputs if output.output_type == "stream")

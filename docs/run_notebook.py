"""Runs recipes/walkthrough.ipynb from top to bottom and keeps its outputs in it: `make notebook`.

python docs/run_notebook.py [FOLDER]     # in a copy of recipes/
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbclient
import nbformat

NAME = "walkthrough.ipynb"
_CELL_S = 240


def run(folder: Path) -> nbformat.NotebookNode:
    """Executes the notebook in that folder, writes it, returns it; raises CellExecutionError where a cell does."""
    notebook = nbformat.read(folder / NAME, as_version=4)
    # the commands of its cells are this environment's; output comes in pieces, and when it came is nobody's matter
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    client = nbclient.NotebookClient(
        notebook,
        timeout=_CELL_S,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**os.environ, "PATH": path})
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, folder / NAME)
    return notebook


if __name__ == "__main__":
    run(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "recipes"))

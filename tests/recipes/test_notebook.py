"""The notebook: committed as it ran, and run from top to bottom by `make test-slow`."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

from hetero_tfdata.emulate.cgroups import Hierarchies
from hetero_tfdata.emulate.limits import Limits
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError

RECIPES = Path(__file__).parents[2] / "recipes"
NOTEBOOK = RECIPES / "walkthrough.ipynb"


def test_it_is_committed_as_it_ran():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "make notebook"
    for cell in cells:
        assert cell["outputs"], "".join(cell["source"])
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", NOTEBOOK.read_text()), (
        "it names a folder of somebody's machine"
    )


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path):
    pytest.importorskip("nbclient")
    try:
        with Privileges.acquire():
            Hierarchies.find().require([Limits(cpus=1.0)])
    except ConfigurationError as error:
        pytest.skip(str(error))
    folder = tmp_path / "recipes"
    shutil.copytree(RECIPES, folder, ignore=shutil.ignore_patterns("out", "__pycache__", ".*"))
    spec = importlib.util.spec_from_file_location("run_notebook", RECIPES.parent / "docs/run_notebook.py")
    run_notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run_notebook)
    notebook = run_notebook.run(folder)  # raises where a cell does
    told = {"".join(cell["source"]): str(cell["outputs"]) for cell in notebook.cells if cell["cell_type"] == "code"}
    diagnosis = next(output for source, output in told.items() if "diagnose --summary" in source)
    assert "CPU-bound: the GPUs wait for batches that CPUs make" in diagnosis
    request = next(output for source, output in told.items() if "--dry-run" in source)
    assert "'ml.p4d.24xlarge'" in request.replace('"', "'")

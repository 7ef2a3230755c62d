"""Cells of the fault matrix as `make bench-faults` runs them, with plain processes and shorter deadlines: one of each row.
Links that are cut and come back plain processes have none of: that row has namespaces, and is in `make test-slow`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from faulting.cells import CELLS, Cell  # noqa: E402
from faulting.runs import measure  # noqa: E402

from hetero_tfdata.emulate.privileges import Privileges  # noqa: E402
from hetero_tfdata.errors import ConfigurationError  # noqa: E402

QUICK = {"lease-s": 8, "first-contact-s": 15}
TIMES = {"at_s": 12.0, "late_s": 12.0}
READ_S = 16.0  # of those that read for some time, whatever happens


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in CELLS if cell.quick])
def test_fault(cell: Cell, tmp_path: Path) -> None:
    if cell.ranks > 1:
        pytest.importorskip("horovod")
    arguments: dict[str, Any] = dict(QUICK)
    if cell.must == "go on" and "seconds" in cell.arguments:
        arguments["seconds"] = READ_S
    times = TIMES
    if cell.arguments.get("endless"):  # the reading has to have begun, and to go on for some time
        times, arguments["seconds"] = {**TIMES, "at_s": 20.0}, 30.0
    if "data-python" in cell.arguments:
        arguments["data-python"] = str(another_tensorflow(tmp_path))
    found = measure(cell, tmp_path / "run", isolation="process", times=times, arguments=arguments)
    logs = "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in (tmp_path / "run").glob("*.log"))
    assert found.passed, f"{found.text}\n{logs}"


@pytest.mark.slow
def test_a_link_that_is_cut_and_comes_back(tmp_path: Path) -> None:
    try:
        with Privileges.acquire():
            pass
    except ConfigurationError as error:
        pytest.skip(str(error))
    cell = next(cell for cell in CELLS if cell.name == "cut")
    found = measure(cell, tmp_path / "run", times={"at_s": 20.0})
    assert found.passed, found.text


def another_tensorflow(folder: Path) -> Path:
    """This Python, whose installed TensorFlow says that it is 2.11.0; `make bench-faults` takes a real one."""
    described = folder / "packages/tensorflow-2.11.0.dist-info/METADATA"
    described.parent.mkdir(parents=True)
    described.write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 2.11.0\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/packages:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python

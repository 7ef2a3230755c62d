"""Cells of the fault matrix as `make bench-faults` runs them, one of each row, with shorter deadlines, and plain processes
where nothing needs a network, limits or a disk of a host's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.errors import ConfigurationError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from faulting.cells import CELLS, Cell  # noqa: E402
from faulting.runs import measure  # noqa: E402

QUICK = {"lease-s": 8, "first-contact-s": 20}
TIMES = {"at_s": 12.0, "cut_s": 5.0, "late_s": 12.0}
READ_S = {"go on": 16.0, "resume": 30.0}  # of those that read for some time, whatever happens


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in CELLS if cell.quick])
def test_fault(cell: Cell, tmp_path: Path) -> None:
    if cell.quick == "namespace":
        try:
            with Privileges.acquire():
                pass
        except ConfigurationError as error:
            pytest.skip(str(error))
    # a link's hosts need their whole lease to find each other again
    arguments: dict[str, Any] = dict(QUICK if cell.quick == "process" else {})
    if cell.must in READ_S and "seconds" in cell.arguments:
        arguments["seconds"] = READ_S[cell.must]
    if "data-python" in cell.arguments:
        arguments["data-python"] = str(another_tensorflow(tmp_path))
    assert cell.quick is not None
    found = measure(cell, tmp_path / "run", isolation=cell.quick, times=TIMES, arguments=arguments)
    logs = "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in (tmp_path / "run").glob("*.log"))
    assert found.passed, f"{found.text}\n{logs}"


def another_tensorflow(folder: Path) -> Path:
    """This Python, whose installed TensorFlow says that it is 2.12.1; `make bench-faults` takes a real one."""
    described = folder / "packages/tensorflow-2.12.1.dist-info/METADATA"
    described.parent.mkdir(parents=True)
    described.write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 2.12.1\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/packages:$PYTHONPATH exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python

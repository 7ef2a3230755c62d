"""Cells of the fault matrix as `make bench-faults` runs them, with plain processes and shorter deadlines: one of each row that
needs no network, limits or disk of a host's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from faulting.cells import CELLS, Cell  # noqa: E402
from faulting.runs import measure  # noqa: E402

QUICK = {"lease-s": 8, "first-contact-s": 20}
AT_S = 12.0
READ_S = 16.0  # of those that read for some time, whatever happens


@pytest.mark.parametrize("cell", [pytest.param(cell, id=cell.name) for cell in CELLS if cell.quick])
def test_fault(cell: Cell, tmp_path: Path) -> None:
    arguments = QUICK | ({"seconds": READ_S} if cell.must == "go on" and "seconds" in cell.arguments else {})
    found = measure(cell, tmp_path / "run", isolation="process", at_s=AT_S, arguments=arguments)
    logs = "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in (tmp_path / "run").glob("*.log"))
    assert found.passed, f"{found.text}\n{logs}"

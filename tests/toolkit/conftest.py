"""For the tests of `make test-toolkit`: Open MPI, sshd, root; `make setup-toolkit` makes the Python environments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.emulate import Group, Job, Result, run
from hetero_tfdata.emulate.toolkit import root_home


@pytest.fixture(autouse=True)
def _this_machines_ssh_is_left_alone() -> Iterator[None]:
    before = _ssh_of_this_machine()
    yield
    assert _ssh_of_this_machine() == before


def _ssh_of_this_machine() -> dict[str, tuple[int, int]]:
    """Every file that an ssh of the hosts could have changed, with its size and time of change."""
    home = Path(root_home(), ".ssh")
    paths = [home, *home.glob("*"), *Path("/etc/ssh").rglob("*"), Path("/etc/environment"), Path("/etc/pam.d/sshd")]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.exists()}


@pytest.fixture
def emulate(tmp_path: Path) -> Callable[..., Result]:
    """Runs a script, or a source folder, as a job; its hosts and name are the same in every run."""

    def start(
        source: str | Path, *groups: Group, toolkit: bool = True, entry_point: str = "train.py", **options: Any
    ) -> Result:
        if isinstance(source, str):
            (tmp_path / "source").mkdir(exist_ok=True)
            (tmp_path / "source" / "train.py").write_text(source)
            source = tmp_path / "source"
        how = {name: options.pop(name) for name in ("timeout_s",) if name in options}
        job = Job(groups, source, entry_point, name="job", **options)
        output = tmp_path / ("toolkit" if toolkit else "stand-in")
        result = run(job, output=output, seed=3, isolation="namespace", toolkit=toolkit, **({"timeout_s": 300} | how))
        for log in sorted(output.glob("*.log")):
            text = log.read_text(errors="replace")
            print(f"--- {log.name}\n{text[:4000]}\n...\n{text[-8000:]}" if len(text) > 12000 else f"--- {log.name}\n{text}")
        return result

    assert os.geteuid() == 0, "sshd on the hosts needs root: run make test-toolkit as root"
    return start

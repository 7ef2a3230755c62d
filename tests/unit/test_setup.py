"""Set-up on machines that lack something: one line, exit 2, nothing half-done; and what the requirements hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def install(clone: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "requirements/install.sh"],
        cwd=clone,
        env={**os.environ, "HOME": str(clone / "home"), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def check_refused(done: subprocess.CompletedProcess[str], clone: Path, phrase: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert phrase in done.stderr
    assert len((done.stdout + done.stderr).strip().splitlines()) == 1
    assert sorted(path.name for path in clone.iterdir()) == ["pyproject.toml", "requirements"]


def test_no_python(clone):
    check_refused(install(clone, PYTHON="python-of-nobody"), clone, "expected Python 3.10 or 3.11")


def test_wrong_python(clone, tmp_path):
    fake = clone / "requirements" / "python3.13"
    fake.write_text("#!/bin/sh\necho 3.13\n")
    fake.chmod(0o755)
    check_refused(install(clone, PYTHON=str(fake)), clone, f"found: {fake}=3.13")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python is refused before a compiler is looked for")
def test_no_compiler(clone):
    done = install(clone, PYTHON=sys.executable, CXX="/nowhere/g++")
    check_refused(done, clone, "expected a C++ compiler to build Horovod, found /nowhere/g++")


def test_no_open_mpi(clone, tmp_path):
    """What test-toolkit needs is named as Debian packages; PATH has nothing but the script's own tools."""
    (tmp_path / "bin").mkdir()
    for tool in ("dirname", "mpirun"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which("dirname"))
    done = subprocess.run(
        [shutil.which("bash"), "requirements/toolkit/install.sh"],
        cwd=clone,
        env={"PATH": str(tmp_path / "bin"), "SBIN": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "missing Debian packages; install them: apt install libopenmpi-dev openssh-server openssh-client iproute2" in line


def test_requirements_have_hashes_and_no_addresses():
    for path in [
        path for pattern in ("*.txt", "toolkit/*.txt", "matrix/*.txt") for path in (ROOT / "requirements").glob(pattern)
    ]:
        text = path.read_text()
        assert "://" not in text, f"{path.name} records an address"
        if path.name != "overrides.txt":
            for requirement in re.findall(r"^[\w.-]+==.*(?:\n    --hash.*)*", text, re.MULTILINE):
                assert "--hash=sha256:" in requirement, requirement

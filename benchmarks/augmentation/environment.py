"""DALI's own environment, made with uv as requirements/install.sh makes the project's."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from augmentation.photographs import ROOT

REQUIREMENTS = ROOT / "requirements/bench-dali.txt"
INSTALL_S = 600.0

__all__ = ["dali_python"]


def dali_python(folder: Path) -> Path | None:
    """Its interpreter; None, with the reason on standard error, where DALI can't be installed or does not run."""
    python, mark = folder / "bin/python", folder / ".installed"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if not (mark.is_file() and mark.read_text() == digest and python.exists()):
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else shutil.which("uv")
        if uv is None:
            return _missing("expected uv beside the interpreter or on PATH, found none: run make setup")
        print(f"bench-augment: installing DALI in {folder} (1.1 GB)", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [uv, "venv", "-q", "--python", sys.executable, str(folder)],
            [
                uv,
                "pip",
                "install",
                "-q",
                "--compile-bytecode",
                "--no-deps",
                "--require-hashes",
                "--python",
                str(python),
                "-r",
                str(REQUIREMENTS),
            ],
            [str(python), "-c", "import nvidia.dali"],
        ):
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
            except subprocess.TimeoutExpired:
                return _missing(f"{command[1]} took more than {INSTALL_S:g} s")
            if done.returncode:
                return _missing((done.stderr.strip().splitlines() or ["no reason given"])[-1])
        mark.write_text(digest)
    return python


def _missing(reason: str) -> Path | None:
    print(f"bench-augment: DALI is left out: {reason}", file=sys.stderr, flush=True)
    return None

"""requirements.txt in the source folder: installed for the run alone, before any host starts.

The container's toolkit runs `pip install -r requirements.txt` on each host. Here it is done once, into a folder of the run
that comes before the machine's own packages; what these already satisfy is not installed again, and nothing of theirs changes.
"""

from __future__ import annotations

import os
import site
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from pathlib import Path

from hetero_tfdata.errors import ConfigurationError

__all__ = ["FILE", "install", "variables"]

FILE = "requirements.txt"
_TICK_S = 0.1


def install(packages: Path, code_dir: Path, log: Path, is_over: Callable[[], bool]) -> None:
    """Installs what CODE_DIR/requirements.txt names into PACKAGES; pip's words go to the log.

    Args:
        packages: the folder to make: a virtual environment that sees this one's packages.
        code_dir: where relative paths in the file begin.
        log: a file.
        is_over: asked again and again; pip is killed once it is true, and nothing is there of what it should have brought.

    Raises:
        ConfigurationError: pip is missing, or could not do it; has its last words.
    """
    venv.create(packages, with_pip=False, system_site_packages=True)
    own = _site_packages(packages)
    # Lets it see the packages of this interpreter where that is a virtual environment itself, with their own .pth files.
    lines = [f"import site; site.addsitedir({folder!r})" for folder in site.getsitepackages()]
    (own / "_this_environment.pth").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pip", "--python", str(packages / "bin" / "python"), "--disable-pip-version-check"]
    with open(log, "wb") as output:
        pip = subprocess.Popen(
            [*command, "install", "--no-input", "-r", FILE],
            cwd=code_dir,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while pip.poll() is None:
            if is_over():
                return
            time.sleep(_TICK_S)
    finally:
        pip.kill()
        pip.wait()
    if pip.returncode != 0:
        said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["pip said nothing"]
        raise ConfigurationError(f"{FILE} can't be installed: {errors[-1]}; read {log}")


def variables(packages: Path, environment: dict[str, str]) -> dict[str, str]:
    """What puts the installed packages and their commands first."""
    path = [str(_site_packages(packages)), environment.get("PYTHONPATH", "")]
    commands = [str(packages / "bin"), environment.get("PATH", os.defpath)]
    return {
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
        "PATH": os.pathsep.join(commands),
    }


def _site_packages(packages: Path) -> Path:
    return packages / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

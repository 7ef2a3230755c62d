"""Runs the tests of the augmentations beside other TensorFlows: `make test-matrix`.

Each environment is made once under .cache/matrix and used again until its requirements change; the default one is .venv.
Names of environments choose some of them; all other arguments go to pytest.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".cache" / "matrix"
SUITE = (*sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/unit/test_augment_*.py")), "tests/conformance")


@dataclass(frozen=True)
class Environment:
    """Attributes: name, of the requirements too; python, its version, empty: the interpreter that runs this."""

    name: str
    python: str = ""

    @property
    def requirements(self) -> Path:
        return ROOT / "requirements" / "matrix" / f"{self.name}.txt"

    @property
    def interpreter(self) -> Path:
        return FOLDER / self.name / "bin" / "python" if self.python else Path(sys.executable)


ENVIRONMENTS = (Environment("tf2.12", "3.10"), Environment("default"), Environment("newest", "3.12"))


class MatrixError(Exception):
    """What is missing, in one line."""


def find_python(version: str) -> str:
    """An interpreter of that version; PYTHON_3_10 and so on name one."""
    variable = f"PYTHON_{version.replace('.', '_')}"
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = [os.environ[variable]] if variable in os.environ else [f"python{version}", *pyenv.glob(f"{version}.*/bin/python")]
    for candidate in map(str, named):
        # a shim of pyenv is found but need not run
        asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if shutil.which(candidate) and subprocess.run(asked, capture_output=True, text=True).stdout.strip() == version:
            return candidate
    raise MatrixError(f"expected Python {version}, found none in {', '.join(map(str, named))}; set {variable}=/path/to/python")


def make(environment: Environment, python: str) -> None:
    """Makes the environment unless it is there with the same requirements."""
    marker = FOLDER / environment.name / ".installed"
    digest = hashlib.sha256(environment.requirements.read_bytes()).hexdigest()
    if marker.exists() and marker.read_text() == digest and environment.interpreter.exists():
        return
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise MatrixError(f"expected {uv}, found none; run make setup")
    print(f"matrix: making .cache/matrix/{environment.name} with Python {environment.python}", flush=True)
    folder = str(FOLDER / environment.name)
    commands = (
        [uv, "venv", "-q", "--clear", "--python", python, folder],
        [
            uv,
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--no-deps",
            "--python",
            environment.interpreter,
            "-r",
            environment.requirements,
        ],
    )
    for command in commands:
        if subprocess.run(command).returncode != 0:
            raise MatrixError(f"{environment.name}: {' '.join(map(str, command[1:3]))} failed; its messages stand above")
    marker.write_text(digest)


def versions(environment: Environment) -> dict[str, str]:
    """TensorFlow, Python and TensorFlow Addons of an environment."""
    script = """
import json, platform
from importlib.metadata import PackageNotFoundError, version
def find(*names):
    for name in names:
        try:
            return version(name)
        except PackageNotFoundError:
            pass
    return "none"
found = {"TF": find("tensorflow-cpu", "tensorflow"), "Python": platform.python_version(), "TFA": find("tensorflow-addons")}
print(json.dumps(found))
"""
    return json.loads(subprocess.run([environment.interpreter, "-c", script], capture_output=True, check=True).stdout)


def run(environment: Environment, arguments: list[str]) -> dict[str, int]:
    """The suite's counts."""
    report = FOLDER / f"{environment.name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [environment.interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    # the package is installed in .venv only
    environ = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "PYTHONPATH": str(ROOT)}
    code = subprocess.run([*command, *SUITE, *arguments], cwd=ROOT, env=environ).returncode
    return counts(report, code)


def counts(report: Path, code: int) -> dict[str, int]:
    """Passed, failed and skipped of a JUnit report; a pytest that failed without saying so counts as one failure."""
    result = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        kinds = {child.tag for child in case}
        result["failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"] += 1
    if code != 0 and not result["failed"]:
        result["failed"] = 1
    return result


def main(arguments: list[str]) -> int:
    names = [environment.name for environment in ENVIRONMENTS]
    chosen = [one for one in ENVIRONMENTS if one.name in arguments] or list(ENVIRONMENTS)
    try:
        pythons = {one.name: find_python(one.python) for one in chosen if one.python}
        for one in chosen:
            if one.python:
                make(one, pythons[one.name])
    except MatrixError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 2
    lines, failed = [], 0
    for one in chosen:
        print(f"matrix: {one.name}", flush=True)
        result = run(one, [argument for argument in arguments if argument not in names])
        failed += result["failed"]
        described = {"environment": one.name, **versions(one), **result}
        lines.append("  ".join(f"{key} {value}" for key, value in described.items()))
    print("\n".join(lines))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

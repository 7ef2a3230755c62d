"""Runs the tests beside other TensorFlows: `make test-matrix`.

Each environment is made once under .cache/matrix and used again until its requirements change. In it the package is the built
wheel, and the tests run in a copy of the checkout that lacks the package, so that nothing but the wheel can be imported. What
an environment has no library for (Horovod, TensorFlow Addons) is skipped there, with the reason.

Names of environments choose some of them; all other arguments go to pytest.
"""

from __future__ import annotations

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
_LEFT_OUT = ("hetero_tfdata", "out", "build", "dist")


@dataclass(frozen=True)
class Environment:
    """Attributes: name; python, its version; requirements, a file of the folder of that name; has_horovod."""

    name: str
    python: str
    requirements: str
    has_horovod: bool = True

    @property
    def interpreter(self) -> Path:
        return FOLDER / self.name / "bin" / "python"

    @property
    def requirements_file(self) -> Path:
        return ROOT / "requirements" / self.requirements


ENVIRONMENTS = (
    Environment("tf2.12", "3.10", "matrix/tf2.12.txt"),
    Environment("default", "", "dev.txt"),
    Environment("newest", "3.12", "matrix/newest.txt", has_horovod=False),
)


class MatrixError(Exception):
    """What is missing, in one line."""


def find_python(version: str) -> str:
    """An interpreter of that version; PYTHON_3_10 and so on name one. No version: that of .venv."""
    if not version:
        return sys._base_executable
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
    """Makes the environment unless it is there with the same requirements, and installs the package's wheel."""
    command = [ROOT / "requirements/matrix/install.sh", environment.name, python, environment.requirements_file]
    if subprocess.run([*command, *(["horovod"] if environment.has_horovod else [])]).returncode != 0:
        raise MatrixError(f"{environment.name} could not be made; the messages stand above")


def copied(environment: Environment) -> Path:
    """A copy of the checkout without the package and without what is hidden or was made."""
    tree = FOLDER / environment.name / "checkout"
    shutil.rmtree(tree, ignore_errors=True)

    def left_out(folder: str, names: list[str]) -> set[str]:
        made = _LEFT_OUT if folder == str(ROOT) else ()
        return {name for name in names if name[0] == "." or name == "__pycache__" or name in made}

    shutil.copytree(ROOT, tree, ignore=left_out, symlinks=True)
    return tree


def versions(environment: Environment) -> dict[str, str]:
    """TensorFlow, Python, TensorFlow Addons and Horovod of an environment."""
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
found["Horovod"] = find("horovod")
print(json.dumps(found))
"""
    return json.loads(subprocess.run([environment.interpreter, "-c", script], capture_output=True, check=True).stdout)


def run(environment: Environment, arguments: list[str]) -> dict[str, int]:
    """The suite's counts; arguments go to pytest."""
    report = FOLDER / f"{environment.name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [environment.interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "-n", "2"]
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    # the commands that tests start by name are this environment's
    environ["PATH"] = f"{environment.interpreter.parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
    code = subprocess.run([*command, "--dist", "loadgroup", *arguments], cwd=copied(environment), env=environ).returncode
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
        pythons = {one.name: find_python(one.python) for one in chosen}
        for one in chosen:
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

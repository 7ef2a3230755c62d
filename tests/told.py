"""What a process of a job is told, and the comparison of two: one of our stand-in for sagemaker-training, one of its own."""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import pytest

from hetero_tfdata.emulate import Result

# Says all that it can see, first of all before it changes anything itself; ranks of one host see each other's files.
PROBE = """
import json, os, sys
told = {"variables": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd(), "name": __name__}
base = os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml")
walked = [(os.path.relpath(folder, base), below + names) for folder, below, names in os.walk(base)]
told["files"] = sorted(os.path.join(folder, name) for folder, inside in walked for name in inside if "told-" not in name)
config = os.path.join(base, "input", "config")
told["config"] = {name: json.load(open(os.path.join(config, name))) for name in os.listdir(config)}
from sagemaker_training import environment
theirs = environment.Environment()
told["theirs"] = {"variables": theirs.to_env_vars(), "arguments": theirs.to_cmd_args()}
rank = os.environ.get("OMPI_COMM_WORLD_RANK")
with open(os.path.join(base, "output", "data", f"told-{rank}.json"), "w") as file:
    json.dump(told, file)
"""

# Variables that differ on purpose, by pattern.
OF_TRAIN = {
    "TF2_BEHAVIOR": "set by importing TensorFlow, which `train` does to learn the names of its exceptions",
    "TPU_ML_PLATFORM": "the same",
    "TPU_ML_PLATFORM_VERSION": "the same, of the newest TensorFlow",
    "ENABLE_RUNTIME_UPTIME_TELEMETRY": "the same",
    "HDF5_PLUGIN_PATH": "the same",
    "OMPI_MCA_mpi_yield_when_idle": "ours for the toolkit's hosts, which share this machine's CPUs",
    "HOME": "with mpirun the home that ssh knows, root's; else what it is for whoever starts the emulator",
    "USER": "of whoever starts the emulator; ssh must not ask for it on hosts that have root alone",
    "LOGNAME": "the same",
}
OF_RANKS = OF_TRAIN | {
    "HOROVOD_*": "by which the stand-in's ranks find each other, started by horovodrun; mpirun's do so by the next four",
    "OMPI_MCA_*": "mpirun's daemon; a rank that has them and no daemon waits for it in MPI_Init",
    "OMPI_FILE_LOCATION": "the daemon's folder",
    "PMIX_*": "the daemon's address",
    "HFI_NO_BACKTRACE": "Open MPI's driver of a network that isn't there",
    "IPATH_NO_BACKTRACE": "the same",
    "LD_PRELOAD": "the toolkit's gethostname.so: a rank's host name is SageMaker's, which it is anyway",
    "SSH_*": "ssh, by which mpirun starts ranks on other hosts",
    "SHELL": "ssh",
    "MAIL": "ssh",
    "MOTD_SHOWN": "ssh",
    "SHLVL": "the shell that ssh starts",
    "OLDPWD": "a shell",
    "_": "a shell",
}
# Keys of SM_TRAINING_ENV that sagemaker-training has only since version 5.
SINCE_5 = ("topology",)


def is_version_4() -> bool:
    """Whether the installed sagemaker-training is a version 4; our stand-in is made after 5.1."""
    return version("sagemaker-training").startswith("4.")


def leave_few_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts inherit little from this machine: on the way through ssh and PAM some values change that no script reads."""
    for name in set(os.environ) - {"HOME", "LANG", "PATH", "PYTHONPATH", "TMPDIR"}:
        monkeypatch.delenv(name)
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.setenv("A_VARIABLE", "of the caller")


def told(result: Result, host: str, rank: int | None = None) -> dict[str, Any]:
    """What the probe saw on a host."""
    return json.loads((result.output / host / "opt" / "ml" / "output" / "data" / f"told-{rank}.json").read_text())


def differences(ours: dict[str, Any], theirs: dict[str, Any], on_purpose: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    """(ours, theirs) of everything that differs; variables are compared one by one, those of JSON by value."""
    found = {
        name: (ours[name], theirs[name]) for name in ours if name not in ("variables", "theirs") and ours[name] != theirs[name]
    }
    a, b = ({name: _value(text) for name, text in seen["variables"].items()} for seen in (ours, theirs))
    if is_version_4():
        for name in SINCE_5:
            assert name not in b["SM_TRAINING_ENV"]
            del a["SM_TRAINING_ENV"][name]
    for name in sorted(a.keys() | b.keys()):
        if a.get(name) != b.get(name) and not any(fnmatch.fnmatchcase(name, pattern) for pattern in on_purpose):
            found[name] = (a.get(name), b.get(name))
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text

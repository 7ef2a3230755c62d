"""The folder of one emulator run: each host's /opt/ml, its log, and the mark that makes the folder ours to replace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.variables import Variables
from hetero_tfdata.errors import ConfigurationError

__all__ = ["MARK", "RunFolder", "default_output", "write_by_rename"]

MARK = ".hetero-tfdata-emulate"
_FAILURE_CHARACTERS = 1024  # what SageMaker shows of output/failure


def default_output() -> Path:
    """A fresh folder out/emulate/<timestamp> below the working directory."""
    parent = Path("out", "emulate").resolve()
    stamp = time.strftime("%Y-%m-%d-%H-%M-%S")
    names = [stamp, *(f"{stamp}-{number}" for number in range(2, 100))]
    return next(parent / name for name in names if not (parent / name).exists())


class RunFolder:
    """The output folder of one run, locked while the run lasts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def claim(cls, output: Path, job: Job) -> Iterator[RunFolder]:
        """A new folder, an empty one, or that of an earlier run, whose content is removed.

        Raises:
            ConfigurationError: the folder holds something else, or another run uses it.
        """
        path = output.expanduser().resolve()
        channels = [channel.folder for group in job.groups for channel in job.channels_of(group.name).values()]
        for used in (job.source_dir, *channels, *([job.checkpoints] if job.checkpoints else [])):
            if path == used or path in Path(used).parents:
                raise ConfigurationError(f"output folder {path} holds {used}, which the job reads; choose another one")
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"output {path}: expected a folder, it is a file")
        others = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
        if others and MARK not in others:
            raise ConfigurationError(
                f"output folder {path}: expected a new or empty folder, or one of an earlier emulator run; "
                f"it holds {', '.join(others[:3])}{' ...' if len(others) > 3 else ''}"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = open(path / MARK, "a")  # noqa: SIM115 (held until the run ends)
        except OSError as error:
            raise ConfigurationError(f"output folder {path} can't be written: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process, whatever ends it
            except BlockingIOError:
                raise ConfigurationError(f"output folder {path} is in use by another emulator run") from None
            folder = cls(path)
            try:
                folder._clear()
            except OSError as error:
                raise ConfigurationError(f"an earlier run's files in {path} can't be removed: {error}") from None
            yield folder

    def discard(self) -> None:
        """Removes the folder: nothing was started in it."""
        self._clear()
        shutil.rmtree(self.path, ignore_errors=True)

    def base_dir(self, host: str) -> Path:
        """The host's /opt/ml."""
        return self.path / host / "opt" / "ml"

    @property
    def packages(self) -> Path:
        """What the job's requirements.txt brought, where it has one."""
        return self.path / "packages"

    def log(self, host: str) -> Path:
        """What the host's processes print."""
        return self.path / f"{host}.log"

    def failure(self, host: str) -> str | None:
        """What the host wrote to output/failure, as far as SageMaker shows it."""
        try:
            return (self.base_dir(host) / "output" / "failure").read_text(errors="replace")[:_FAILURE_CHARACTERS]
        except OSError:
            return None

    def lay_out(self, variables: Variables) -> None:
        """Makes the host's /opt/ml, as SageMaker and sagemaker-training make it before the entry point starts."""
        base, job = self.base_dir(variables.host.name), variables.job
        for name in ("input/config", "input/data", "model", "output/data", "output/intermediate"):
            (base / name).mkdir(parents=True)
        if job.checkpoints is not None:
            Path(job.checkpoints).mkdir(parents=True, exist_ok=True)
        if job.checkpoints is not None and variables.view.shared_channels:
            (base / "checkpoints").symlink_to(job.checkpoints, target_is_directory=True)
        else:
            (base / "checkpoints").mkdir()  # of its own, or where the shared one is mounted
        config = base / "input" / "config"
        _write_json(config / "resourceconfig.json", variables.resource_config())
        _write_json(config / "hyperparameters.json", variables.hyperparameters())
        _write_json(config / "inputdataconfig.json", variables.input_data_config())
        for name, channel in variables.channels.items():
            place = base / "input" / "data" / name
            if variables.view.shared_channels:
                place.symlink_to(channel.folder, target_is_directory=True)
            else:
                place.mkdir()  # where it is mounted
        shutil.copytree(job.source_dir, base / "code", ignore=self._not_code, ignore_dangling_symlinks=True)
        self.log(variables.host.name).touch()

    def _not_code(self, folder: str, names: list[str]) -> set[str]:
        """Compiled files, and emulators' output where it lies below the source folder: this run's first of all."""
        return {name for name in names if name == "__pycache__" or Path(folder, name, MARK).exists()}

    def _clear(self) -> None:
        for entry in self.path.iterdir():
            if entry.name == MARK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def write_by_rename(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))

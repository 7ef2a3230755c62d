from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from support import FOREIGN, TestJob


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What `make test` runs side by side: whole files, whose fixtures are then set up once. Ports are nobody's problem: whoever
    takes a block holds it (`support.free_blocks`, `emulate.hosts`)."""
    if not config.pluginmanager.hasplugin("xdist"):  # the environments of `make test-matrix` run one after the other
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.relative_to(Path(__file__).parent).as_posix()))


@pytest.fixture(autouse=True)
def _no_foreign_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests start outside any training job, wherever they run."""
    for name in os.environ:
        if name.startswith(FOREIGN):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_outlives_its_test() -> Iterator[None]:
    """Streams: the watchdog would end this process for a failed test's iterator, whose service is gone. And seeds."""
    yield
    stalls, tensorflow = (sys.modules.get(name) for name in ("hetero_tfdata.service.stalls", "tensorflow"))
    if stalls is not None:
        stalls._streams.clear()
    if tensorflow is not None:
        tensorflow.random.set_seed(None)


@pytest.fixture
def make_job(tmp_path: Path) -> Iterator[Callable[..., TestJob]]:
    """Jobs whose processes are ended with the test."""
    jobs: list[TestJob] = []

    def make(groups: dict[str, list[str]], **options: object) -> TestJob:
        jobs.append(TestJob(tmp_path / f"job{len(jobs)}", groups, **options))
        return jobs[-1]

    yield make
    for job in jobs:
        job.end()


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a training script."""

    def write(text: str, name: str = "train.py") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write

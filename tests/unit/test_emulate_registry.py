"""What a dead emulator left is cleared by the next; tests/cluster/test_namespaces.py does it with real namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hetero_tfdata.emulate.privileges import Privileges, check_commands
from hetero_tfdata.emulate.registry import Run
from hetero_tfdata.errors import ConfigurationError
from support import clean_environment, wait_for

# Of a user namespace: its names of network namespaces end with it, so no command is run.
UNPRIVILEGED = Privileges(("false",))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "hetero-tfdata"


def test_a_run_removes_what_it_made(home: Path, tmp_path: Path) -> None:
    group = tmp_path / "group"
    with Run.begin(UNPRIVILEGED) as run:
        run.will_make(namespaces=["x"], control_groups=[group / "algo-1", group])
        (group / "algo-1").mkdir(parents=True)
        assert run.folder.parent == home
        assert run.name.startswith("hetero-")
    assert not group.exists()
    assert [path.name for path in home.iterdir()] == ["lock"]


def test_a_killed_emulators_groups_are_removed_by_the_next_and_a_living_ones_are_not(home: Path, tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.emulate.registry import Run
with Run.begin(Privileges(("false",))) as run:
    run.will_make(namespaces=[], control_groups=[Path({str(tmp_path)!r}, "dead")])
    Path({str(tmp_path)!r}, "dead").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    with Run.begin(UNPRIVILEGED) as living:
        living.will_make(namespaces=[], control_groups=[tmp_path / "living"])
        (tmp_path / "living").mkdir()
        environment = clean_environment(XDG_RUNTIME_DIR=str(tmp_path))
        killed = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60)
        assert killed.returncode == -9
        assert (tmp_path / "dead").exists()
        assert len(list(home.glob("hetero-*"))) == 2
        with Run.begin(UNPRIVILEGED) as following:
            assert not (tmp_path / "dead").exists()
            assert {path.name for path in home.glob("hetero-*")} == {living.name, following.name}
            assert (tmp_path / "living").exists()
    assert not (tmp_path / "living").exists()


def test_a_killed_emulators_command_is_waited_for(home: Path, tmp_path: Path) -> None:
    """What it still makes would come after the clearing up."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = f"""
import os, signal, threading, time
from pathlib import Path
from hetero_tfdata.emulate.privileges import Privileges
from hetero_tfdata.emulate.registry import Run
with Run.begin(Privileges(("env",))) as run:
    command = ["sh", "-c", "touch {tmp_path}/runs; read line < {gate}; mkdir {tmp_path}/late"]
    run.will_make(namespaces=[], control_groups=[Path({str(tmp_path)!r}, "late")])
    threading.Thread(target=run.privileges.run, args=(command,)).start()
    while not os.path.exists({str(tmp_path / "runs")!r}):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = clean_environment(XDG_RUNTIME_DIR=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script], env=environment, timeout=60).returncode == -9
    with Run.begin(UNPRIVILEGED):
        assert len(list(home.glob("hetero-*"))) == 2
    gate.write_text("go on\n")
    wait_for((tmp_path / "late").exists, 20, "the command's end")

    def next_start_clears_up() -> bool:
        with Run.begin(UNPRIVILEGED):
            return not (tmp_path / "late").exists()

    wait_for(next_start_clears_up, 20, "the command's lock")


def test_a_missing_command_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"needs the command ip, .* \(apt-get install iproute2\), or use --isolation"):
        check_commands()


def test_a_failed_commands_words_are_passed_on() -> None:
    with pytest.raises(ConfigurationError, match="sh -c echo no such device >&2; exit 1 failed: no such device; or use"):
        Privileges().run(["sh", "-c", "echo no such device >&2; exit 1"])

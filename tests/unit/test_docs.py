"""What the documents promise is what the commands do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hetero_tfdata import cli
from support import clean_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def help_of(*subcommand: str) -> str:
    command = [sys.executable, "-m", "hetero_tfdata", *subcommand, "--help"]
    done = subprocess.run(command, env=clean_environment(COLUMNS="200"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_subcommand_is_documented_and_every_documented_option_exists():
    for name in cli._SUBCOMMANDS:
        assert f"hetero-tfdata {name}" in README
        text = help_of(name)
        for command in re.findall(rf"hetero-tfdata {name}((?:[^`\n]|\\\n)*)", README):
            for option in re.findall(r"--[a-z][a-z-]+", command):
                assert option in text, f"README shows {option} of {name}, --help does not"


def test_every_make_target_of_the_documents_exists():
    makefile = (ROOT / "Makefile").read_text()
    for document in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"(?:`|^)make ([a-z]+)", document, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_shown_launcher_is_the_recipes():
    recipe = (ROOT / "recipes" / "resnet50_imagenet" / "launcher.py").read_text()
    code = recipe[recipe.index("import sys") :]
    assert f"```python\n{code}```" in README


def test_the_shown_table_is_what_the_emulator_prints():
    from hetero_tfdata.emulate.summary import HostResult, Result, render

    shown = re.search(r"```\n(host +group.*?)```", README, re.DOTALL).group(1)
    hosts = [line.split() for line in shown.splitlines() if line.startswith("algo-")]
    model = next(line.split() for line in shown.splitlines() if line.startswith("resnet50"))
    result = Result(
        hosts=tuple(
            HostResult(name, group, kind, int(code), None, wall_s=1.0, cpu_s=float(cores))
            for name, group, kind, _, cores, code in hosts
        ),
        output=ROOT,
        ended_by=None,
        exit_code=0,
        train={
            "model": model[0],
            "ranks": int(model[1]),
            "steps": int(model[2]),
            "images_per_s": float(model[3]),
            "step_ms": float(model[4]),
            "input_wait_ms": float(model[6]),
            "loss_first": float(model[-2]),
            "loss_last": float(model[-1]),
        },
        served_by_host={name: int(count) for name, _, _, count, _, _ in hosts if count != "-"},
    )
    assert shown.strip() in render(result)


def test_layers():
    """Each layer imports only what stands below it: the contract in pyproject.toml."""
    if not (ROOT / "hetero_tfdata").exists():
        pytest.skip("this is a copy of the checkout without the package")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout

"""The facts of instance types, and the file they stand in."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest

from hetero_tfdata.cluster.instances import Instance, instance, parse
from hetero_tfdata.errors import ConfigurationError
from support import clean_environment

ROOT = Path(__file__).parents[2]
COLUMNS = "instance_type\tvcpu\tmemory_gib\taccelerators\taccelerator\tbaseline_gbps\tusd_per_hour_2026_09"
LINE = "ml.c5.18xlarge\t72\t144\t0\t\t25\t3.672"


def test_an_instance_as_it_stands_in_the_file():
    assert instance("ml.p4d.24xlarge") == Instance(
        "ml.p4d.24xlarge", 96, 1152.0, 8, "A100-40GB", 400.0, {"2026-09": 25.2513, "2022": 37.688}
    )
    assert instance("ml.c5.18xlarge").accelerator is None


def test_what_is_not_sourced_is_none_and_never_guessed():
    assert dict(instance("ml.c5n.18xlarge").usd_per_hour) == {}
    assert dict(instance("ml.p3.2xlarge").usd_per_hour) == {"2022": 3.825}
    assert parse(f"{COLUMNS}\nml.new.large\t\t\t\t\t\t", "x")["ml.new.large"] == Instance(
        "ml.new.large", None, None, None, None, None, {}
    )


@pytest.mark.parametrize("name", ["ml.c9.18xlarge", "", "c5.18xlarge", "instance_type"])
def test_unknown_type(name):
    assert instance(name) is None


def test_every_line_of_the_file_is_complete_but_for_prices():
    text = resources.files("hetero_tfdata.cluster").joinpath("instances.tsv").read_text()
    found = parse(text, "instances.tsv")
    assert len(found) > 30
    assert text.startswith("# Facts of the instance types."), "where the numbers come from stands with them"
    for one in found.values():
        assert all((one.vcpu, one.memory_gib, one.baseline_gbps)), one
        assert (one.accelerator is None) == (one.accelerators == 0)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "x: expected a line of column names"),
        ("# only words\n", "x: expected a line of column names"),
        ("type\tcpus\n", "x, line 1: expected the columns instance_type, .*; instance_type, vcpu, .* is not there"),
        (f"{COLUMNS}\nml.c5.large\t2\n", "x, line 2: expected 7 columns, got 2"),
        (
            f"{COLUMNS}\n{LINE.replace('72', 'many', 1)}\n",
            "line 2, column vcpu: expected a number of at least 0 or nothing, got 'many'",
        ),
        (f"{COLUMNS}\n{LINE.replace('72', '7.5', 1)}\n", "line 2, column vcpu: expected a whole number or nothing, got '7.5'"),
        (f"{COLUMNS}\n{LINE.replace('3.672', '-1')}\n", "column usd_per_hour_2026_09: expected a number of at least 0"),
        (f"{COLUMNS}\n{LINE.replace('25', 'nan')}\n", "column baseline_gbps: expected a number"),
        (f"{COLUMNS}\n{LINE}\n{LINE}\n", "line 3: expected an instance type that no other line has, got 'ml.c5.18xlarge'"),
    ],
)
def test_a_damaged_file_is_told_with_line_and_column(text, phrase):
    with pytest.raises(ConfigurationError, match=phrase):
        parse(text, "x")


def test_the_file_is_read_when_it_is_needed():
    code = "import sys, hetero_tfdata.cluster.instances as i; "
    code += "print(i.instances.cache_info().currsize, 'tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "False"], done.stderr


def test_the_file_is_in_the_wheel(tmp_path):
    pytest.importorskip("hatchling")
    if not (ROOT / "hetero_tfdata").exists():
        pytest.skip("this is a copy of the checkout without the package")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = archive.read("hetero_tfdata/cluster/instances.tsv").decode()
    assert packed == (ROOT / "hetero_tfdata" / "cluster" / "instances.tsv").read_text()

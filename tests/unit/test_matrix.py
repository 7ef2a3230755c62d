"""`make test-matrix`: its environments, and what it makes of a report."""

from __future__ import annotations

import re
import sys

import pytest

import matrix

REPORT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><failure/></testcase><testcase name="c"><skipped/></testcase>
<testcase name="d"><error/></testcase><testcase name="e"/><testcase name="f"/>
</testsuite></testsuites>"""


def test_counts(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert matrix.counts(report, 1) == {"passed": 3, "failed": 2, "skipped": 1}


def test_a_pytest_that_crashed_is_a_failure(tmp_path):
    assert matrix.counts(tmp_path / "none.xml", -11)["failed"] == 1
    (tmp_path / "empty.xml").write_text("<testsuites/>")
    assert matrix.counts(tmp_path / "empty.xml", 5)["failed"] == 1, "nothing collected"


def test_a_missing_interpreter_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("PYTHON_3_10", "python-of-nobody")
    assert matrix.main(["tf2.12"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("matrix: expected Python 3.10, found none in python-of-nobody; set PYTHON_3_10=")
    assert len(said.splitlines()) == 1


def test_an_interpreter_of_another_version_is_none(monkeypatch):
    monkeypatch.setenv("PYTHON_2_7", sys.executable)
    with pytest.raises(matrix.MatrixError, match=r"expected Python 2\.7"):
        matrix.find_python("2.7")


def test_requirements_are_exact_and_have_no_addresses():
    for environment in matrix.ENVIRONMENTS:
        text = environment.requirements_file.read_text()
        assert "://" not in text
        assert re.search(r"^tensorflow-cpu==[\d.]+ \\\n    --hash=sha256:", text, re.MULTILINE)
        assert "\nhorovod==" not in text, "it is built, for each TensorFlow"


def test_the_tests_run_where_the_package_is_not(monkeypatch, tmp_path):
    """What they import is then the installed wheel, in the processes that they start as well."""
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    tree = matrix.copied(matrix.ENVIRONMENTS[0])
    assert {"tests", "recipes", "benchmarks", "docs", "pyproject.toml", "Makefile"} <= {path.name for path in tree.iterdir()}
    assert not (tree / "hetero_tfdata").exists()
    assert not [path for path in tree.rglob("*") if path.name == "__pycache__" or path.name == ".venv"]

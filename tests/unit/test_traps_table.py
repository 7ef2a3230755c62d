"""The table of traps in test_traps.py names tests that exist, for each trap one with plain tf.data service beside ours."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = ast.get_docstring(ast.parse((TESTS / "cluster/test_traps.py").read_text())) or ""
TRAPS = dict(re.findall(r"^ ?(\d+)\. .+\n((?: {4}\S+: \w+\n?)+)", TABLE, re.MULTILINE))


def test_there_are_twenty():
    assert list(TRAPS) == [str(number) for number in range(1, 21)]


@pytest.mark.parametrize("number", TRAPS)
def test_each_has_its_tests(number):
    marked = False
    for place, name in re.findall(r"(\S+): (\w+)", TRAPS[number]):
        code = (TESTS / place).read_text()
        functions = [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
        assert name in functions
        marked |= place.startswith("faults/") or "pytestmark = pytest.mark.peers" in code
    assert marked, "one that make test-peers or make test-faults runs"

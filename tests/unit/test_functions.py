"""Which Python functions a graph has, told so that another process finds the same ones or none."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest

from hetero_tfdata.service.functions import Functions, PythonFunction, difference, digest, is_importable, versions_of
from support import clean_environment

SCALE = np.float32(2)
BEFORE = Functions(
    (PythonFunction("pyfunc_3", "pixels", "decode", "a", "b"), PythonFunction("pyfunc_4", "pixels", "crop", "c", "d")),
    "pixels:make",
    {"Python": "3.11", "numpy": "1.26.4", "pixels.py": "0"},
)


def plain(x):
    return x * 2


def made(by, how=plain):
    def inner(x):
        return how(x) + by

    return inner


class Called:
    def __call__(self, x):
        return x


def test_what_other_processes_find_by_its_name():
    assert is_importable(plain)
    assert is_importable(np.asarray)
    assert not is_importable(made(1))
    assert not is_importable(lambda x: x)
    assert not is_importable(functools.partial(plain, 1))
    assert not is_importable(Called())


@pytest.mark.parametrize(
    ("one", "other", "source_is_equal", "closure_is_equal"),
    [
        (made(1), made(1), True, True),
        (made(1), made(2), True, False),
        (made(1), made(1.0), True, False),
        (made([1, {"a": 2}]), made([1, {"a": 3}]), True, False),
        (made(np.zeros(3)), made(np.ones(3)), True, False),
        (made({"b", "a", "c"}), made({"c", "b", "a"}), True, True),
        (made(1, plain), made(1, np.sin), True, False),
        (made(Called()), made(Called()), True, True),
        (lambda x: x + 1, lambda x: x + 2, False, True),
        (functools.partial(plain, 1), functools.partial(plain, 2), True, False),
    ],
)
def test_two_functions_are_the_same_where_source_and_values_are(one, other, source_is_equal, closure_is_equal):
    (source, closure), (other_source, other_closure) = digest(one), digest(other)
    assert (source == other_source, closure == other_closure) == (source_is_equal, closure_is_equal)


def test_a_digest_is_the_same_in_every_process():
    """Whatever the seed of its hashes."""
    import subprocess
    import sys

    code = """
from hetero_tfdata.service.functions import digest
f = (lambda names: lambda x: x in {"a", "b", "c", "d"} and names)({"e", "f", "g"})
print(*digest(f))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env=clean_environment(PYTHONHASHSEED=seed), capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(told) == 1


def test_it_travels_as_json():
    sent = json.loads(json.dumps(replace(BEFORE, dataset_fn=None).as_dict()))
    assert Functions.of(sent) == replace(BEFORE, dataset_fn=None)
    for change in ({"functions": [{"token": "pyfunc_1"}]}, {"functions": 3}, {"versions": None}):
        with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
            Functions.of({**sent, **change})
    with pytest.raises(ValueError, match="invalid literal"):
        Functions.of({**sent, "functions": [{**sent["functions"][0], "token": "nothing"}]})


@pytest.mark.parametrize(
    ("there", "versions", "said"),
    [
        (BEFORE.functions[:1], {}, "the dataset has 2 Python functions here and 1 there (decode)"),
        (BEFORE.functions[::-1], {}, "they are registered in another order there: number 1 is decode here and crop there"),
        ((BEFORE.functions[0], replace(BEFORE.functions[1], source="x")), {}, "crop of pixels has another body there"),
        (
            (replace(BEFORE.functions[0], closure="x"), BEFORE.functions[1]),
            {},
            "decode of pixels has closed over other values there",
        ),
        (BEFORE.functions, {"numpy": "2.0.0"}, "numpy is 1.26.4 here and 2.0.0 there"),
        (BEFORE.functions, {"numpy": None}, "numpy is 1.26.4 here and missing there"),
        (BEFORE.functions, {"pixels.py": "1"}, "pixels.py is another file there"),
        (BEFORE.functions, {"other": "1"}, None),
    ],
)
def test_a_difference_is_told_in_a_sentence(there, versions, said):
    found = {name: version for name, version in {**BEFORE.versions, **versions}.items() if version is not None}
    assert difference(BEFORE, there, found) == said


def test_what_the_functions_modules_import_has_to_be_the_same_too():
    found = versions_of([plain])
    assert found["numpy"] == np.__version__
    assert "test_functions.py" in found
    assert "support.py" in found, "a module beside it"
    assert "json" not in found

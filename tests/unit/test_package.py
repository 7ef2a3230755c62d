from __future__ import annotations

import subprocess
import sys

import pytest

import hetero_tfdata
from hetero_tfdata import errors
from support import clean_environment


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_none_of_the_heavy_packages():
    code = "import sys, hetero_tfdata; print(sorted(m for m in sys.modules if m.split('.')[0] in "
    code += "('tensorflow', 'boto3', 'botocore', 'sagemaker', 'sagemaker_training', 'horovod', 'grpc', 'numpy', 'keras')))"
    assert python(code).strip() == "[]"


def test_distribute_alone_loads_no_tensorflow():
    code = "import sys; from hetero_tfdata import distribute, Cluster, Wire; distribute(); Cluster.discover()"
    assert python(code + "; print('tensorflow' in sys.modules, 'grpc' in sys.modules)").split() == ["False", "False"]


def test_public_names():
    for name in hetero_tfdata.__all__:
        assert getattr(hetero_tfdata, name) is not None
    assert set(hetero_tfdata.__all__) <= set(dir(hetero_tfdata))
    with pytest.raises(AttributeError, match=r"no attribute 'distribut'.*public names: .*distribute"):
        _ = hetero_tfdata.distribut


def test_every_error_has_the_root_and_stands_in_the_tree():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.HeteroTFDataError)
        assert name in errors.__doc__


def test_distribute_without_tensorflow_says_what_to_install():
    code = """
import sys
sys.modules['tensorflow'] = None
from hetero_tfdata import distribute, errors
try:
    distribute(service='grpc://127.0.0.1:1')(object())
except errors.ConfigurationError as error:
    print(error)
"""
    assert "pip install 'hetero-tfdata[tensorflow]'" in python(code)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        ({"processing_mode": "static"}, "processing_mode: expected one of dynamic, off, got 'static'"),
        ({"ready_timeout_s": 0}, "ready_timeout_s: expected seconds above 0, got 0"),
        ({"compression": "zip"}, "expected one of none, auto, snappy, got 'zip'"),
    ],
)
def test_distribute_checks_its_arguments_when_called(arguments, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        hetero_tfdata.distribute(**arguments)

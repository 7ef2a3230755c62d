"""What a dataset demands of the hosts that serve it, through whole jobs: libraries of operations, and worker processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hetero_tfdata.cluster import Host
from hetero_tfdata.service.status import ask_status

HOROVODRUN = str(Path(sys.executable).with_name("horovodrun"))
GROUPS = {"data_group": ["algo-1", "algo-3"], "dnn_group": ["algo-2"]}

DATES = """
import tensorflow as tf
from hetero_tfdata import Cluster, Wire, distribute, errors

def dates(module):
    texts = tf.data.Dataset.range(100).map(lambda day: tf.strings.format("1970-{}-01", day % 12 + 1))
    return texts.map(lambda text: module.library.custom_parse_time(text, time_format="%Y-%m-%d", output_unit="SECOND"))
"""
SOME = sorted([0, 2678400, 5097600, 7776000, 10368000, 13046400, 15638400, 18316800, 20995200, 23587200, 26265600, 28857600])


@pytest.fixture
def write_library():
    """A module of operations that no server loads by itself: one library of TensorFlow Addons, which servers do load, under
    another name."""
    addons = pytest.importorskip("tensorflow_addons")
    shared_object = (Path(addons.__file__).parent / "custom_ops" / "text" / "_parse_time_op.so").read_bytes()

    def write(folder: Path, name: str = "custom_time") -> None:
        folder.mkdir(exist_ok=True)
        (folder / f"_{name}.so").write_bytes(shared_object.replace(b"Addons>", b"Custom>"))
        (folder / f"{name}.py").write_text(
            "import pathlib\n"
            "import tensorflow as tf\n"
            f"library = tf.load_op_library(str(pathlib.Path(__file__).parent / '_{name}.so'))\n"
        )

    return write


def test_a_library_beside_the_script_runs_on_data_hosts_that_serve_already(make_job, write_script, write_library, tmp_path):
    """No --preload. Plain tf.data service, on the same servers, shows what they lacked; a stream that runs meanwhile goes on."""
    script = write_script(
        DATES
        + """
import itertools
dispatcher = Cluster.discover().dispatcher_host
service = tf.data.experimental.service
running = iter(tf.data.Dataset.range(1000).batch(2).apply(distribute(wire=Wire(keep_batches=True), ready_timeout_s=120)))
rows = [int(x) for batch in itertools.islice(running, 20) for x in batch]

import custom_time
plain = dates(custom_time).apply(service.distribute("parallel_epochs", f"grpc://{dispatcher.address}:{dispatcher.dispatcher_port}"))
try:
    list(plain)
except tf.errors.OpError as error:
    print("PLAIN", error.message)
print("DATES", *[int(x) for x in dates(custom_time).apply(distribute(strict=True, ready_timeout_s=120))])
rows += [int(x) for batch in running for x in batch]
print("RUNNING", rows == sorted(set(rows)), sorted(rows) == list(range(1000)), len(rows))
"""
    )
    write_library(tmp_path)
    job = make_job(GROUPS)
    for host in job.hosts:
        job.launch(host, script)
    assert set(job.wait(180).values()) == {0}, job.logs()
    print(job.logs())
    assert 0

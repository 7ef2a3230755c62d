"""tf.distribute without Horovod, on emulated hosts: every row once, and the ranks that the instance groups make."""

from __future__ import annotations

import json

import pytest

from hetero_tfdata.emulate import Group, Job, run

pytestmark = pytest.mark.slow

ROWS = 1000
LAUNCHER = """
import sys
from hetero_tfdata.launch.entry import launch
sys.exit(launch("train.py", sys.argv[1:], workers=2))
"""
TRAIN = """
import json, os, sys
import tensorflow as tf
from hetero_tfdata import distribute
from hetero_tfdata.train import mirrored

devices = int(sys.argv[sys.argv.index("--devices") + 1])
if devices > 1:
    cpu, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
strategy = mirrored.strategy()
pieces = tf.data.Dataset.range(0, 1000, 50)
dataset = pieces.flat_map(lambda first: tf.data.Dataset.range(first, first + 50)).batch(20)
rows, sums = [], []
for batch in mirrored.per_replica(strategy, dataset.apply(distribute())):
    rows += [row for each in strategy.experimental_local_results(batch) for row in each.numpy().tolist()]
    each = strategy.run(lambda one: tf.reduce_sum(one), args=(batch,))
    sums.append(int(strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)))
with open(os.path.join(os.environ["SM_OUTPUT_DATA_DIR"], "rows.json"), "w") as file:
    json.dump([type(strategy).__name__, strategy.num_replicas_in_sync, mirrored.is_leader(strategy), rows, sum(sums)], file)
"""


@pytest.mark.parametrize(
    ("hosts", "devices", "kind"),
    [(1, 2, "MirroredStrategy"), (2, 1, "CollectiveAllReduceStrategy")],
    ids=["one-host", "two-hosts"],
)
def test_every_row_once_over_all_replicas(tmp_path, hosts, devices, kind):
    source = tmp_path / "job"
    source.mkdir()
    (source / "launcher.py").write_text(LAUNCHER)
    (source / "train.py").write_text(TRAIN)
    result = run(
        Job(
            groups=[Group("data_group", "ml.c5.xlarge", 1), Group("dnn_group", "ml.c5.xlarge", hosts)],
            source_dir=source,
            entry_point="launcher.py",
            hyperparameters={"devices": devices},
        ),
        output=tmp_path / "out",
        isolation="process",
        timeout_s=200,
    )
    logs = "".join(path.read_text()[-2000:] for path in (tmp_path / "out").glob("*.log"))
    assert [host.exit_code for host in result.hosts] == [0] * (1 + hosts), logs
    told = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("*/opt/ml/output/data/rows.json"))]
    assert [one[:2] for one in told] == [[kind, 2]] * hosts
    assert [one[2] for one in told] == [True] + [False] * (hosts - 1)
    assert sorted(row for one in told for row in one[3]) == list(range(ROWS))
    assert {one[4] for one in told} == {sum(range(ROWS))}, "the replicas added up the same"

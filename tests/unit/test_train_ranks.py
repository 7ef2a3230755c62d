"""Ranks of uneven streams, as two real processes under horovodrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from hetero_tfdata.errors import ConfigurationError, DatasetError
from hetero_tfdata.train import ranks
from support import clean_environment

# Of one stream of 60 rows rank 0 gets five batches of 8 and one of 4, rank 1 two of 8, and in the last part rank 1 gets none.
SCRIPT = """
import json
import numpy as np
import tensorflow as tf
from hetero_tfdata.train import horovod, ranks

pytest.importorskip("horovod")

hvd = horovod.init()
rank = hvd.rank()
rows = [range(0, 44), range(44, 60)][rank]
numbers = tf.data.Dataset.from_tensor_slices(tf.constant(list(rows), tf.float32))
dataset = numbers.map(lambda number: (tf.stack([number, 1.0]), number)).batch(8)
said = {}

said["drop"] = [y.numpy().tolist() for _, y in dataset.apply(ranks.together())]
weighed = [(y.numpy().tolist(), w.numpy().tolist()) for _, y, w in dataset.apply(ranks.together(at_end="weigh"))]
said["weigh"] = weighed
nothing = dataset.take(0 if rank else 2)
said["blank"] = [(y.shape[0], float(tf.reduce_sum(w))) for _, y, w in nothing.apply(ranks.together(at_end="weigh"))]

def network():
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
    model.compile(hvd.DistributedOptimizer(tf.keras.optimizers.SGD(1e-5)), loss="mse", weighted_metrics=[])
    return model

model = network()
steps = []
count = tf.keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: steps.append(batch))
model.fit(dataset.apply(ranks.together(at_end="weigh")), epochs=3, verbose=0, callbacks=[count])
said["steps"] = len(steps)
said["equal"] = len(horovod.check_equal_weights(model))

plain = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=(2,))])
plain.compile("sgd", loss="mse", metrics=["mae"])
plain.set_weights([np.array([[0.5], [2.0]], np.float32), np.zeros(1, np.float32)])
said["evaluated"] = ranks.evaluate(plain, dataset)
said["one rank has all"] = ranks.evaluate(plain, dataset.take(0 if rank else 2))
evaluation = ranks.EveryRankEvaluation(dataset)
evaluation.set_model(plain)
logs = {}
evaluation.on_epoch_end(0, logs)
said["logs"] = logs
try:
    ranks.evaluate(plain, dataset.take(0))
except Exception as error:
    said["no rows"] = str(error)
print("SAID", json.dumps(said), flush=True)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks said."""
    script = tmp_path_factory.mktemp("ranks") / "train.py"
    script.write_text(SCRIPT)
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["horovodrun", "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = sorted(line for line in result.stdout.splitlines() if "SAID" in line)
    assert len(lines) == 2, result.stdout
    return [json.loads(line.split("SAID", 1)[1]) for line in lines]


def test_all_ranks_stop_before_the_first_step_that_one_has_no_batch_for(said):
    assert [len(each["drop"]) for each in said] == [2, 2]
    assert said[0]["drop"][1] == list(range(8, 16))
    assert said[1]["drop"][1] == list(range(52, 60))


def test_weighed_steps_count_each_row_once(said):
    assert [len(each["weigh"]) for each in said] == [6, 6]
    batches = [batch for each in said for batch in each["weigh"]]
    counted = sorted(row for rows, weights in batches for row, weight in zip(rows, weights, strict=True) if weight)
    assert counted == list(range(60))
    assert [sum(weights) for _, weights in said[1]["weigh"]] == [8, 8, 0, 0, 0, 0]
    assert said[1]["weigh"][5][0] == list(range(52, 60))


def test_a_rank_without_a_single_batch_sits_the_steps_out(said):
    assert said[0]["blank"] == [[8, 8.0], [8, 8.0]]
    assert said[1]["blank"] == [[1, 0.0], [1, 0.0]]


def test_training_on_uneven_streams_ends_with_equal_weights(said):
    assert [each["steps"] for each in said] == [18, 18]
    assert [each["equal"] for each in said] == [64, 64]


def test_evaluation_counts_each_row_once_on_every_rank(said):
    rows = tf.range(60, dtype=tf.float32)
    expected = {"loss": float(tf.reduce_mean((0.5 * rows + 2 - rows) ** 2)), "mae": float(tf.reduce_mean(abs(2 - 0.5 * rows)))}
    for each in said:
        assert each["evaluated"] == pytest.approx(expected, rel=1e-5)
        assert each["logs"] == pytest.approx({f"val_{name}": value for name, value in expected.items()}, rel=1e-5)
    first = rows[:16]
    assert said[1]["one rank has all"]["mae"] == pytest.approx(float(tf.reduce_mean(abs(2 - 0.5 * first))), rel=1e-5)
    assert "expected rows for at least one rank" in said[1]["no rows"]


def test_one_rank_keeps_its_dataset():
    dataset = tf.data.Dataset.range(3)
    assert dataset.apply(ranks.together()) is dataset
    pairs = tf.data.Dataset.zip((dataset, dataset)).batch(2)
    weights = [w.numpy().tolist() for _, _, w in pairs.apply(ranks.together(at_end="weigh"))]
    assert weights == [[1, 1], [1]]


def test_bad_input_says_what_was_expected():
    with pytest.raises(ConfigurationError, match="together: at_end: expected one of drop, weigh, got 'pad'"):
        ranks.together(at_end="pad")
    with pytest.raises(DatasetError, match=r"expected elements \(x, y\) or \(x, y, weights\), got 1 component"):
        tf.data.Dataset.range(3).apply(ranks.together(at_end="weigh"))

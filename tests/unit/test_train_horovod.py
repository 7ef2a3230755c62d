from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from hetero_tfdata.train.horovod import weights_fingerprint
from support import clean_environment

SCRIPT = """
import tensorflow as tf
from hetero_tfdata.errors import JobError
from hetero_tfdata.train import horovod

pytest.importorskip("horovod")

hvd = horovod.init()
tf.keras.utils.set_random_seed(hvd.rank())
model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,)), tf.keras.layers.BatchNormalization()])
optimizer = hvd.DistributedOptimizer(tf.keras.optimizers.SGD(0.1, momentum=0.9))
model.compile(optimizer, loss="mse")
try:
    horovod.check_equal_weights(model)
    say = "no error"
except JobError as error:
    say = str(error)
print("before:", say, flush=True)
if hvd.rank() == 0:
    model.optimizer.build(model.trainable_variables)
    for variable in model.optimizer.variables:
        variable.assign(tf.cast(tf.fill(variable.shape, 7), variable.dtype))
horovod.broadcast(model)
print("equal:", len(horovod.check_equal_weights(model)) == 64, flush=True)
print("optimizer:", all((variable.numpy() == 7).all() for variable in model.optimizer.variables), flush=True)
print("value:", horovod.broadcast_value({"from": hvd.rank()}), flush=True)
model.optimizer.learning_rate.assign(0.1)

class Count(horovod.LeaderEvaluation):
    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        print("logs:", hvd.rank(), sorted(logs), flush=True)

x = tf.random.normal([8, 3], mean=float(hvd.rank()))
average = [horovod.AverageMovingStatistics()] if {average} else []
evaluation = Count(tf.data.Dataset.from_tensors((x, x[:, :2])))
model.fit(x, x[:, :2], batch_size=4, epochs=1, verbose=0, callbacks=[*average, evaluation])
try:
    horovod.check_equal_weights(model)
    say = "no error"
except JobError as error:
    say = str(error)
print("after:", say, flush=True)
"""


def two_ranks(script: Path) -> list[str]:
    environment = clean_environment()
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    command = ["horovodrun", "--gloo", "-np", "2", "-H", "localhost:2", sys.executable, str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_ranks_are_made_equal_and_kept_equal(write_script: Callable[[str], Path]) -> None:
    lines = two_ranks(write_script(SCRIPT.replace("{average}", "True")))
    for rank in (0, 1):
        said = [line.removeprefix(f"[{rank}]<stdout>:") for line in lines if line.startswith(f"[{rank}]")]
        assert said[0].startswith("before: 1 of 2 ranks hold other weights than rank 0 (ranks 1): expected equal ones; ")
        assert said[1:4] == ["equal: True", "optimizer: True", "value: {'from': 0}"]
        evaluated = ["loss", "val_loss"] if rank == 0 else ["loss"]
        assert said[4:] == [f"logs: {rank} {evaluated}", "after: no error"]


def test_fingerprint_follows_the_weights() -> None:
    model = tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,)), tf.keras.layers.BatchNormalization()])
    before = weights_fingerprint(model)
    assert weights_fingerprint(model) == before
    variable = model.layers[1].moving_mean
    variable.assign(variable + 1e-6)
    assert weights_fingerprint(model) != before

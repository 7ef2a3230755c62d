"""On the training host: reads the service's batches, then stops the data hosts."""

import argparse
import glob
import json
import os
import socket
import time

import tensorflow as tf

from launcher import DISPATCHER_PORT, SHUTDOWN_PORT, group_hosts


def connect(host, port):
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError:
            time.sleep(0.2)


parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int)
arguments = parser.parse_args()
data_hosts = group_hosts("data_group")
for host in data_hosts:
    connect(host, DISPATCHER_PORT if host == data_hosts[0] else 6001).close()
files = sorted(glob.glob("/opt/ml/input/data/train/*.txt"))
dataset = tf.data.TextLineDataset(files).map(tf.strings.to_number).batch(arguments.batch_size)
dataset = dataset.apply(
    tf.data.experimental.service.distribute("distributed_epoch", f"grpc://{data_hosts[0]}:{DISPATCHER_PORT}")
)
rows = sorted(float(value) for batch in dataset for value in batch.numpy())
with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
    json.dump({"rows": len(rows), "sum": sum(rows)}, file)
for host in data_hosts:
    connect(host, SHUTDOWN_PORT).close()

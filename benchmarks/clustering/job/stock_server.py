"""A server of tf.data service with its defaults: `stock_server.py dispatcher` or `worker DISPATCHER ADDRESS`."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from launcher_stock import DISPATCHER_PORT, WORKER_PORT

service = tf.data.experimental.service
if sys.argv[1] == "dispatcher":
    server = service.DispatchServer(service.DispatcherConfig(port=DISPATCHER_PORT, protocol="grpc"))
else:
    import tensorflow_addons as tfa

    tfa.image.gaussian_filter2d(tf.zeros([5, 5, 1]))  # which loads its library
    config = service.WorkerConfig(
        dispatcher_address=sys.argv[2],
        worker_address=sys.argv[3],
        port=WORKER_PORT,
        protocol="grpc",
        dispatcher_timeout_ms=600_000,
    )
    server = service.WorkerServer(config)
server.join()

"""On a data host: tf.data service until the training host says stop."""

import os
import socket

import tensorflow as tf

from launcher import DISPATCHER_PORT, SHUTDOWN_PORT, WORKER_PORT, group_hosts

here = os.environ["SM_CURRENT_HOST"]
assert socket.gethostname() == here
first = group_hosts("data_group")[0]
service = tf.data.experimental.service
if here == first:
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=DISPATCHER_PORT, protocol="grpc"))
worker = service.WorkerServer(
    service.WorkerConfig(
        dispatcher_address=f"{first}:{DISPATCHER_PORT}", worker_address=f"{here}:{WORKER_PORT}", port=WORKER_PORT
    )
)
with socket.create_server(("", SHUTDOWN_PORT)) as listener:
    print(f"{here} serves", flush=True)
    connection, (peer, _) = listener.accept()
    connection.close()
print(f"{here} was told to stop by {peer}", flush=True)

"""A SageMaker job as people write it: its own launcher, fixed ports, hard-coded group names, /opt/ml. It knows no emulator."""

import json
import os
import subprocess
import sys

DISPATCHER_PORT = 6000
WORKER_PORT = 6001
SHUTDOWN_PORT = 16000


def resource_config():
    with open("/opt/ml/input/config/resourceconfig.json") as file:
        return json.load(file)


def group_hosts(name):
    return next(group["hosts"] for group in resource_config()["instance_groups"] if group["instance_group_name"] == name)


if __name__ == "__main__":
    group = os.environ["SM_CURRENT_INSTANCE_GROUP"]
    if group not in ("data_group", "dnn_group"):
        raise SystemExit(f"unknown group {group}")
    script = "serve_data.py" if group == "data_group" else "train_dnn.py"
    sys.exit(subprocess.call([sys.executable, script, *sys.argv[1:]]))

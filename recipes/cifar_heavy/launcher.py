"""What SageMaker starts on every host: servers on the data hosts, train.py on the training hosts and, as published, a worker
beside it: an ml.p4d's 96 vCPUs are two fifths of the cluster's."""

import sys

import hetero_tfdata.cli

if __name__ == "__main__":
    sys.exit(hetero_tfdata.cli.main(["launch", "--local-workers", "1", "train.py", *sys.argv[1:]]))

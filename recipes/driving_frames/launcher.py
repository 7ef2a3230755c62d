"""What SageMaker starts on every host: servers on the data hosts, train.py on the training hosts."""

import sys

import hetero_tfdata.cli

if __name__ == "__main__":
    sys.exit(hetero_tfdata.cli.main(["launch", "train.py", *sys.argv[1:]]))

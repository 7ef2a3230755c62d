"""What SageMaker starts on every host of job-mirrored.toml: servers on data hosts, train_mirrored.py on training hosts."""

import sys

import hetero_tfdata.cli

if __name__ == "__main__":
    sys.exit(hetero_tfdata.cli.main(["launch", "train_mirrored.py", *sys.argv[1:]]))

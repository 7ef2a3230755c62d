"""The SageMaker entry point with hetero_tfdata: one worker process a host, as published, also beside the training."""

import sys

import hetero_tfdata.cli

if __name__ == "__main__":
    workers = ["--workers", "1", "--local-workers", "1"]
    sys.exit(hetero_tfdata.cli.main(["launch", *workers, "train.py", *sys.argv[1:]]))

"""The SageMaker entry point with hetero_tfdata: one worker process a host, as published, also beside the training (or as many
there as --local-workers says)."""

import argparse
import sys

import hetero_tfdata.cli

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--local-workers", default="1")
    options, rest = parser.parse_known_args()
    beside = [] if options.local_workers == "0" else ["--local-workers", options.local_workers]
    sys.exit(hetero_tfdata.cli.main(["launch", "--workers", "1", *beside, "train.py", *rest]))

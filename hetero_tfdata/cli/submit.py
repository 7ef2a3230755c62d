"""Submits a job file to SageMaker, or shows what would be asked for: no account, no network."""

from __future__ import annotations

import argparse
import json
from typing import Any

from hetero_tfdata.errors import ConfigurationError

SUMMARY = "submit a job file to SageMaker, or show the request"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and what to do with it."""
    add = parser.add_argument
    add("job", metavar="FOLDER|FILE", help="a folder with a job.toml, or such a file")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--dry-run", action="store_true", help="print the CreateTrainingJob request as JSON; asks nobody")
    which.add_argument("--estimator", action="store_true", help="print the equivalent Python, for a notebook")
    add("--region", default="us-east-1", metavar="NAME", help="of the request's image and bucket (default: %(default)s)")
    add("--role", metavar="ARN", help="the execution role (default: the job file's)")
    add("--homogeneous", action="store_true", help="the same job without its data groups, for the comparison")


def run(arguments: argparse.Namespace) -> int:
    """Prints; 0."""
    from hetero_tfdata.sagemaker.job_file import read
    from hetero_tfdata.sagemaker.request import python, rendered

    job: Any = read(arguments.job)
    if arguments.homogeneous:
        job = job.homogeneous()
    if arguments.estimator:
        print(python(job))
        return 0
    if not arguments.dry_run:
        raise ConfigurationError("expected --dry-run or --estimator")
    print(json.dumps(rendered(job, arguments.region, arguments.role), indent=1, default=str))
    return 0

"""Submits a job file to SageMaker, or shows what would be asked for: no account, no network."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hetero_tfdata.errors import JobError

if TYPE_CHECKING:
    from hetero_tfdata.sagemaker import Job

SUMMARY = "submit a job file to SageMaker, or show the request"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, and what to do with it."""
    add = parser.add_argument
    add("job", metavar="FOLDER|FILE", help="a folder with a job.toml, or such a file")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--dry-run", action="store_true", help="print the CreateTrainingJob request as JSON; asks nobody")
    which.add_argument("--estimator", action="store_true", help="print the equivalent Python, for a notebook")
    which.add_argument("--wait", action="store_true", help="stay until it has ended: states, the hosts' lines, steps and cost")
    add("--region", metavar="NAME", help="(default: as for AWS's own tools; of a dry run us-east-1)")
    add("--role", metavar="ARN", help="the execution role (default: the job file's)")
    add("--homogeneous", action="store_true", help="the same job without its data groups, for the comparison")
    add(
        "--attempts",
        type=int,
        default=6,
        metavar="N",
        help="ask so often where there is no capacity, each time under a new name (default: %(default)s)",
    )
    add("--prices", default="2026-09", metavar="2022|2026-09|FILE", help="for what it cost (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Submits, or prints; 0, 1 if the job that was waited for failed."""
    from hetero_tfdata.sagemaker.job_file import read
    from hetero_tfdata.sagemaker.request import python, rendered

    job = read(arguments.job)
    if arguments.homogeneous:
        job = job.homogeneous()
    if arguments.estimator:
        print(python(job, arguments.role))
        return 0
    if arguments.dry_run:
        print(json.dumps(rendered(job, arguments.region or "us-east-1", arguments.role), indent=1, default=str))
        return 0
    return submitted(job, arguments)


def submitted(job: Job, arguments: argparse.Namespace, sleep: Callable[[float], object] = time.sleep) -> int:
    """Submits the job, and follows it if asked."""
    from hetero_tfdata.plan.cloudwatch import connect
    from hetero_tfdata.plan.prices import PriceList
    from hetero_tfdata.sagemaker.following import Follower
    from hetero_tfdata.sagemaker.submission import Retries, is_capacity, submit

    clients = connect(arguments.region)
    import boto3

    retries, prices = Retries(arguments.attempts), PriceList.of(arguments.prices)
    session = boto3.Session(region_name=clients.sagemaker.meta.region_name)
    attempt = 1
    while True:
        found = submit(job, session, role=arguments.role, retries=retries, attempt=attempt, log=_say, sleep=sleep)
        if not arguments.wait:
            print(found.name)
            return 0
        follower = Follower(job, found.name, clients.sagemaker, clients.logs, lambda line: print(line, flush=True))
        try:
            told: Any = follower.run(sleep=sleep)
        except KeyboardInterrupt:
            _say(f"{found.name} goes on; aws sagemaker stop-training-job --training-job-name {found.name} ends it")
            raise
        print("\n".join(follower.summary(told, prices)), flush=True)
        if told["TrainingJobStatus"] != "Failed" or not is_capacity(str(told.get("FailureReason", ""))):
            return 0 if told["TrainingJobStatus"] == "Completed" else 1
        if found.attempt >= retries.attempts:
            raise JobError(f"no capacity at {found.attempt} attempts (--attempts)")
        _say(f"no capacity; asking again in {retries.wait_s(found.attempt):.0f} s")
        sleep(retries.wait_s(found.attempt))
        attempt = found.attempt + 1


def _say(line: str) -> None:
    print(f"hetero-tfdata: {line}", file=sys.stderr, flush=True)

"""Submits a job: nothing is uploaded before all checks passed; what lacks capacity is asked for again, under a new name."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hetero_tfdata.errors import ConfigurationError, JobError
from hetero_tfdata.sagemaker.job import Job
from hetero_tfdata.sagemaker.request import estimator, inputs, rendered, sdk
from hetero_tfdata.sagemaker.source import staged

__all__ = ["Retries", "Submitted", "is_capacity", "submit"]

_CAPACITY = ("ResourceLimitExceeded", "CapacityError", "InsufficientInstanceCapacity", "ThrottlingException")
_TEXT = ("CapacityError", "InsufficientInstanceCapacity", "insufficient capacity", "capacity is currently")


@dataclass(frozen=True)
class Retries:
    """How often a job is asked for that SageMaker has no room for.

    Attributes:
        attempts: in all.
        first_s: wait after the first one, doubled after each further one.
        most_s: longest wait.
    """

    attempts: int = 6
    first_s: float = 60.0
    most_s: float = 900.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"--attempts: expected at least 1, got {self.attempts}")

    def wait_s(self, attempt: int) -> float:
        """After that attempt, counted from 1."""
        return min(self.most_s, self.first_s * 2 ** (attempt - 1))


@dataclass(frozen=True)
class Submitted:
    """A job that SageMaker has accepted."""

    name: str
    attempt: int


def is_capacity(text: str) -> bool:
    """Whether an error or a job's FailureReason says that there are no instances, rather than that the job is wrong."""
    return any(word.lower() in text.lower() for word in (*_CAPACITY, *_TEXT))


def submit(
    job: Job,
    boto_session: Any,
    *,
    role: str | None = None,
    retries: Retries | None = None,
    attempt: int = 1,
    log: Callable[[str], object] = print,
    sleep: Callable[[float], object] = time.sleep,
) -> Submitted:
    """Uploads the source and creates the training job.

    Args:
        job: what to ask for.
        boto_session: boto3's, with region and credentials.
        role: the execution role; None: the job's.
        retries: where there is no capacity; None: the usual ones.
        attempt: the number of the first one, from 1.
        log: takes a line for each thing that happens.
        sleep: waits that many seconds.

    Raises:
        ConfigurationError: no role, no credentials, or AWS refuses the job.
        JobError: there was no capacity at any attempt.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    retries = retries or Retries()
    region = boto_session.region_name
    if role is None and job.role is None:
        raise ConfigurationError('expected an execution role: role = "arn:aws:iam::..." in the job file, or --role')
    rendered(job, region, role)  # every check of the SDK and of the service's model
    with tempfile.TemporaryDirectory() as folder:
        source = staged(job, Path(folder))
        while True:
            # letters of its own: two attempts within a second must not have one name
            name = f"{job.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
            token = secrets.token_urlsafe() if job.has_token else None
            try:
                session = sdk().Session(boto_session=boto_session)
                made = estimator(job, source, session, token, role)
                made.fit(inputs(job), wait=False, job_name=name)
                log(f"training job {name} is created (attempt {attempt} of {retries.attempts})")
                return Submitted(name, attempt)
            except ClientError as error:
                told = error.response.get("Error", {})
                line = f"{told.get('Code')}: {' '.join(str(told.get('Message')).split())}"
                if told.get("Code") not in _CAPACITY:
                    raise ConfigurationError(f"AWS refuses the job: {line}") from None
            except BotoCoreError as error:
                raise ConfigurationError(f"AWS can't be asked: {' '.join(str(error).split())}") from None
            if attempt >= retries.attempts:
                raise JobError(f"no capacity at {attempt} attempts, the last one: {line}")
            log(f"no capacity ({line}); asking again in {retries.wait_s(attempt):.0f} s")
            sleep(retries.wait_s(attempt))
            attempt += 1

"""Follows a training job that runs: its states, the lines of its hosts by instance group, and what it cost in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from hetero_tfdata.plan.observed import StepTimes, groups_told, steps_told
from hetero_tfdata.plan.prices import PriceList
from hetero_tfdata.sagemaker.job import Job

__all__ = ["Follower"]

_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_ENDED = ("Completed", "Failed", "Stopped")
_PAGES = 50  # of one stream at a time: a chatty one must not hold up the others


class Follower:
    """One job.

    Args:
        job: what was asked for.
        name: the training job's.
        sagemaker: boto3's client.
        logs: boto3's client of CloudWatch Logs.
        out: takes each line.
    """

    def __init__(self, job: Job, name: str, sagemaker: Any, logs: Any, out: Callable[[str], object] = print) -> None:
        self._job, self._name = job, name
        self._sagemaker, self._logs = sagemaker, logs
        self._out = out
        self._tokens: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        self._timed: list[str] = []
        self._status = ""

    def run(self, poll_s: float = 10.0, sleep: Callable[[float], object] = time.sleep) -> Mapping[str, Any]:
        """Until the job has ended; its last description."""
        while True:
            told: Mapping[str, Any] = self._sagemaker.describe_training_job(TrainingJobName=self._name)
            status = told.get("SecondaryStatus", told["TrainingJobStatus"])
            if status != self._status:
                self._status = status
                self._out(f"{self._name}: {status}")
            ended = told["TrainingJobStatus"] in _ENDED
            self._read()
            if ended:
                return told
            sleep(poll_s)

    def summary(self, told: Mapping[str, Any], prices: PriceList) -> list[str]:
        """How it ended, its steps, and what it cost."""
        lines = [f"{self._name}: {told['TrainingJobStatus']}"]
        if told.get("FailureReason"):
            lines.append(f"reason: {' '.join(str(told['FailureReason']).split())}")
        steps = steps_told(self._timed)
        if steps is not None:
            lines.append(_steps(steps))
        seconds = told.get("BillableTimeInSeconds") or told.get("TrainingTimeInSeconds")
        if seconds:
            lines.append(self._cost(float(seconds), prices))
        return lines

    def _cost(self, seconds: float, prices: PriceList) -> str:
        unknown = [group.instance_type for group in self._job.groups if group.instance_type not in prices]
        if unknown:
            return f"{seconds:,.0f} s; what they cost is not known ({unknown[0]} has no price in {prices.name}: --prices FILE)"
        hourly = sum(group.count * prices.usd(group.instance_type) for group in self._job.groups)
        spot = ", on demand: spot instances cost less" if self._job.max_wait_s is not None else ""
        return f"{seconds:,.0f} s at ${hourly:.3f} an hour: ${hourly * seconds / 3600:,.2f} ({prices.source}{spot})"

    def _read(self) -> None:
        from botocore.exceptions import ClientError

        try:
            pages = self._logs.get_paginator("describe_log_streams").paginate(
                logGroupName=_LOG_GROUP, logStreamNamePrefix=f"{self._name}/"
            )
            streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ResourceNotFoundException":  # no stream yet
                raise
            streams = []
        for stream in sorted(streams):
            self._read_stream(stream)

    def _read_stream(self, stream: str) -> None:
        host = stream.partition("/")[2].rpartition("-")[0]
        for _ in range(_PAGES):
            token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._logs.get_log_events(logGroupName=_LOG_GROUP, logStreamName=stream, startFromHead=True, **token)
            for event in page["events"]:
                self._line(host, event["message"])
            after = page["nextForwardToken"]
            if after == self._tokens.get(stream):
                return
            self._tokens[stream] = after

    def _line(self, host: str, message: str) -> None:
        group = groups_told([message])
        if group is not None:
            self._groups[host] = group
        if "ms/step" in message:
            self._timed.append(message)
        where = f"{host} ({self._groups[host]})" if host in self._groups else host
        for line in message.splitlines():
            self._out(f"{where} | {line}")


def _steps(steps: StepTimes) -> str:
    wait = "" if steps.input_wait_ms is None else f", of which {steps.input_wait_ms:,.1f} ms wait for input"
    rate = "" if steps.images_per_s is None else f"; {steps.images_per_s:,.1f} images/s"
    return f"{steps.step_ms:,.1f} ms a step{wait}{rate}"

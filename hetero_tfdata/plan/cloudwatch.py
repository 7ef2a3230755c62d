"""A finished training job as CloudWatch saw it: how busy each host was, grouped by instance group, and its timed steps.

CloudWatch names hosts algo-N and knows nothing of groups (docs.aws.amazon.com/sagemaker, "monitoring-cloudwatch"): metrics in
the namespace /aws/sagemaker/TrainingJobs with the dimension Host = JOB/algo-N, log streams JOB/algo-N-TIME. The groups and
their types are in the job's description, and which host is of which group in each host's own log, where the toolkit prints it.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan import profiler_report
from hetero_tfdata.plan.observed import HostLoad, Observed, StepTimes, groups_told, steps_told

__all__ = ["Clients", "connect", "observe"]

_NAMESPACE = "/aws/sagemaker/TrainingJobs"
_LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_METRICS = {
    "cpu": "CPUUtilization",
    "accelerator": "GPUUtilization",
    "accelerator_memory": "GPUMemoryUtilization",
    "memory": "MemoryUtilization",
    "disk": "DiskUtilization",
}
_QUERIES_AT_ONCE = 500  # of GetMetricData
# CloudWatch keeps points of a minute for 15 days, of five for 63, of an hour for 455.
_PERIODS_S = ((15, 60), (63, 300), (455, 3600))
_ENDED = ("Completed", "Failed", "Stopped")
_TRAINS = 0.02  # of the GPUs: before that the job downloads and starts
_MOST_LINES = 10_000


@dataclass(frozen=True)
class Clients:
    """boto3's, of one region."""

    sagemaker: Any
    cloudwatch: Any
    logs: Any
    s3: Any


@dataclass(frozen=True)
class _Group:
    name: str
    instance_type: str
    count: int


def connect(region: str | None = None) -> Clients:
    """Clients with the credentials and the region that AWS's own tools would take.

    Raises:
        ConfigurationError: boto3 is missing, or no region is set.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigurationError("this needs boto3: pip install 'hetero-tfdata[sagemaker]'") from None
    settings = Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=10, read_timeout=30)
    try:
        session = boto3.Session(region_name=region)
        return Clients(*(session.client(name, config=settings) for name in ("sagemaker", "cloudwatch", "logs", "s3")))
    except BotoCoreError as error:
        raise ConfigurationError(f"AWS: {error} (--region, AWS_DEFAULT_REGION or ~/.aws/config)") from None


def observe(job: str, clients: Clients, now: datetime.datetime | None = None) -> Observed:
    """The loads and steps of a job that has ended.

    Args:
        job: the training job's name.
        clients: of its region.
        now: for the age of its points; None: the present.

    Raises:
        ConfigurationError: no credentials, no such job, it still runs, or CloudWatch has no points of it.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return _observe(job, clients, now or datetime.datetime.now(datetime.timezone.utc))
    except ClientError as error:
        told = error.response.get("Error", {})
        where = clients.sagemaker.meta.region_name
        raise ConfigurationError(
            f"training job {job} in {where}: AWS answered {told.get('Code')}: {_line(told.get('Message'))} (is it that name, "
            "region and account?)"
        ) from None
    except BotoCoreError as error:
        raise ConfigurationError(f"training job {job}: AWS can't be asked: {_line(error)}") from None


def _observe(job: str, clients: Clients, now: datetime.datetime) -> Observed:
    told = clients.sagemaker.describe_training_job(TrainingJobName=job)
    status = told["TrainingJobStatus"]
    if status not in _ENDED:
        raise ConfigurationError(
            f"training job {job} is {status} ({told.get('SecondaryStatus', '')}): expected one that has ended; wait for it, or "
            "take its log (--log)"
        )
    if "TrainingStartTime" not in told:
        raise ConfigurationError(
            f"training job {job} is {status} and never trained: {_line(told.get('FailureReason') or 'no instances came up')}"
        )
    groups = _groups(told["ResourceConfig"])
    names = [f"algo-{number + 1}" for number in range(sum(group.count for group in groups))]
    begin, end = told["TrainingStartTime"], told.get("TrainingEndTime") or told["LastModifiedTime"]
    points = _points(job, names, clients.cloudwatch, begin, end, now)
    if not any(points.values()):
        raise ConfigurationError(
            f"training job {job}: CloudWatch has no points of it yet; they come some minutes after a job's minutes, and are "
            "kept for 455 days"
        )
    notes: list[str] = []
    own, steps = _logs(job, clients.logs, notes)
    placed = _placed(names, groups, own, points)
    hosts = [_load(name, placed[name], points[name], notes) for name in names]
    report = _profiler_report(told, job, clients.s3, notes)
    if report is not None:
        hosts = profiler_report.added(hosts, report)
        notes.append("links: SageMaker Debugger's profiler report")
    missing = [name for name in names if not points[name]]
    if missing:
        notes.append(f"no points of {', '.join(missing)}")
    return Observed(job, f"CloudWatch, {begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC", tuple(hosts), steps, tuple(notes))


def _groups(config: Mapping[str, Any]) -> list[_Group]:
    if config.get("InstanceGroups"):
        return [_Group(one["InstanceGroupName"], one["InstanceType"], one["InstanceCount"]) for one in config["InstanceGroups"]]
    return [_Group("homogeneousCluster", config["InstanceType"], config["InstanceCount"])]


_Points = dict[str, list[tuple[datetime.datetime, float]]]


def _points(
    job: str, names: Sequence[str], client: Any, begin: datetime.datetime, end: datetime.datetime, now: datetime.datetime
) -> dict[str, _Points]:
    """Host -> figure -> points, by time, in CloudWatch's own percentages."""
    age = (now - begin).days
    period = next((period for days, period in _PERIODS_S if age < days), _PERIODS_S[-1][1])
    wanted = [(name, figure) for name in names for figure in _METRICS]
    found: dict[str, _Points] = {name: {} for name in names}
    for first in range(0, len(wanted), _QUERIES_AT_ONCE):
        part = wanted[first : first + _QUERIES_AT_ONCE]
        queries = [
            {
                "Id": f"q{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": _NAMESPACE,
                        "MetricName": _METRICS[figure],
                        "Dimensions": [{"Name": "Host", "Value": f"{job}/{name}"}],
                    },
                    "Period": period,
                    "Stat": "Average",
                },
            }
            for number, (name, figure) in enumerate(part)
        ]
        minute = datetime.timedelta(seconds=period)
        pages = client.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=begin - minute, EndTime=end + minute, ScanBy="TimestampAscending"
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                name, figure = part[int(result["Id"][1:])]
                values = zip(result["Timestamps"], result["Values"], strict=True)
                found[name].setdefault(figure, []).extend(values)
    return {name: {figure: sorted(values) for figure, values in figures.items() if values} for name, figures in found.items()}


def _logs(job: str, client: Any, notes: list[str]) -> tuple[dict[str, str], StepTimes | None]:
    """(host -> group, the timed steps) as the job's log streams tell them; nothing where they may not be read."""
    from botocore.exceptions import ClientError

    lines: dict[str, list[str]] = {}
    with contextlib.suppress(StopIteration):
        try:
            for name, line in _events(job, client):
                lines.setdefault(name, []).append(line)
        except ClientError as error:
            notes.append(f"its log was not read ({error.response.get('Error', {}).get('Code')}): hosts placed by their GPUs")
    groups = {name: group for name, told in lines.items() if (group := groups_told(told))}
    return groups, steps_told(line for told in lines.values() for line in told)


def _events(job: str, client: Any) -> Iterator[tuple[str, str]]:
    """(host, line) of the lines that name a group or time an epoch."""
    pages = client.get_paginator("filter_log_events").paginate(
        logGroupName=_LOG_GROUP,
        logStreamNamePrefix=f"{job}/",
        filterPattern='?"nstance_group" ?"INSTANCE_GROUP" ?"ms/step"',
        PaginationConfig={"MaxItems": _MOST_LINES},
    )
    for page in pages:
        for event in page["events"]:
            # JOB/algo-3-1669999999
            yield event["logStreamName"].partition("/")[2].rpartition("-")[0], event["message"]


def _placed(
    names: Sequence[str], groups: Sequence[_Group], own: Mapping[str, str], points: Mapping[str, _Points]
) -> dict[str, _Group | None]:
    """Each host's group: as its log says, else the only one that it can be of by having GPU metrics or none."""
    by_name = {group.name: group for group in groups}
    placed: dict[str, _Group | None] = {}
    for name in names:
        if own.get(name) in by_name:
            placed[name] = by_name[own[name]]
            continue
        has_gpus = "accelerator" in points[name]
        fitting = [group for group in groups if len(groups) == 1 or _has_gpus(group) in (has_gpus, None)]
        placed[name] = fitting[0] if len(fitting) == 1 else None
    return placed


def _has_gpus(group: _Group) -> bool | None:
    known = instance(group.instance_type)
    return None if known is None or known.accelerators is None else known.accelerators > 0


def _load(name: str, group: _Group | None, points: _Points, notes: list[str]) -> HostLoad:
    """Parts of what the host has: CloudWatch counts 100 % for each vCPU and each GPU."""
    known = instance(group.instance_type) if group else None
    most = {
        "cpu": known.vcpu if known else None,
        "accelerator": known.accelerators if known else None,
        "accelerator_memory": known.accelerators if known else None,
        "memory": 1,
        "disk": 1,
    }
    series: dict[str, list[tuple[float, float]]] = {}
    begin = min((values[0][0] for values in points.values()), default=None)
    for figure, values in points.items():
        whole = most[figure]
        if not whole:
            kind = group.instance_type if group else "a type that can't be told"
            notes.append(f"{name}: {_METRICS[figure]} of {kind} is left out: how many it has is not known")
            continue
        assert begin is not None
        series[figure] = [((when - begin).total_seconds() / 60, value / 100 / whole) for when, value in values]
    since = next((minute for minute, part in series.get("accelerator", ()) if part >= _TRAINS), 0.0)
    return HostLoad(
        name,
        group.name if group else None,
        group.instance_type if group else None,
        **{figure: _typical(values, since) for figure, values in series.items()},
        series=series,
    )


def _typical(values: Sequence[tuple[float, float]], since: float) -> float:
    """The median from then on, without the first and the last point, in which the job begins and ends."""
    kept = [part for minute, part in values if minute >= since] or [part for _, part in values]
    return statistics.median(kept[1:-1] if len(kept) >= 4 else kept)


def _profiler_report(told: Mapping[str, Any], job: str, client: Any, notes: list[str]) -> Mapping[str, Any] | None:
    """SageMaker Debugger's, where its rule was on and its file is there."""
    from botocore.exceptions import ClientError

    place = told.get("OutputDataConfig", {}).get("S3OutputPath", "")
    if not told.get("ProfilerRuleEvaluationStatuses") or not place.startswith("s3://"):
        return None
    bucket, _, folder = place.removeprefix("s3://").partition("/")
    prefix = "/".join(part for part in (folder.strip("/"), job, "rule-output/") if part)
    try:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", ()):
                if one["Key"].endswith(f"profiler-reports/{profiler_report.FILE}"):
                    body = client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read()
                    return profiler_report.parsed(json.loads(body), f"s3://{bucket}/{one['Key']}")
    except (ClientError, ValueError) as error:
        notes.append(f"the profiler report was not read: {_line(error)}")
    return None


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300]

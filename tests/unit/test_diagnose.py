"""diagnose: from CloudWatch (moto's, and recorded shapes), from logs, from emulated runs, from Debugger's report."""

from __future__ import annotations

import datetime
import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.stub import Stubber
from moto import mock_aws

from hetero_tfdata.cli import main
from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.plan.cloudwatch import connect, observe
from hetero_tfdata.plan.diagnosis import diagnose
from hetero_tfdata.plan.observed import HostLoad, Observed, StepTimes, groups_told, steps_told
from hetero_tfdata.plan.profiler_report import FILE

ROOT = Path(__file__).parents[2]
NAMESPACE = "/aws/sagemaker/TrainingJobs"
REGION = "us-east-1"
HETERO = [
    {"InstanceGroupName": "data_group", "InstanceType": "ml.c5.18xlarge", "InstanceCount": 2},
    {"InstanceGroupName": "dnn_group", "InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1},
]
EPOCH = "hetero_tfdata: epoch {}: 100 steps, {} ms/step, input wait {} ms/step, input-bound 60.0 %, 42666.7 images/s"


def load(host: str, group: str, **figures) -> HostLoad:
    return HostLoad(host, group, "ml.p4d.24xlarge" if group == "dnn_group" else "ml.c5.18xlarge", **figures)


def verdict(*hosts: HostLoad, steps: StepTimes | None = None) -> str:
    return diagnose(Observed("job", "test", hosts, steps)).verdict


# --- what follows from what


@pytest.mark.parametrize(
    ("hosts", "steps", "expected"),
    [
        # the published one: CPUs at their limit, GPUs not
        ([load("algo-1", "dnn_group", cpu=0.97, accelerator=0.45)], None, "cpu-bound"),
        ([load("algo-1", "dnn_group", cpu=0.4, accelerator=0.93)], None, "gpu-bound"),
        ([load("algo-1", "dnn_group", cpu=0.4, accelerator=0.5)], None, "neither"),
        ([load("a-1", "dnn_group", cpu=0.2, accelerator=0.5), load("a-2", "data_group", cpu=0.96)], None, "cpu-bound"),
        ([load("a-1", "dnn_group", cpu=0.2, accelerator=0.5), load("a-2", "data_group", cpu=0.3)], None, "neither"),
        (
            [load("a-1", "dnn_group", cpu=0.2, accelerator=0.5), load("a-2", "data_group", cpu=0.9, link=0.97)],
            None,
            "network-bound",
        ),
        # timed steps decide before averages of minutes do
        ([load("algo-1", "dnn_group", cpu=0.97, accelerator=0.7)], StepTimes(64.0, 1.0), "gpu-bound"),
        ([load("algo-1", "dnn_group", cpu=0.97, accelerator=0.9)], StepTimes(192.0, 128.0), "cpu-bound"),
        ([load("algo-1", "dnn_group")], StepTimes(192.0, 128.0), "input-bound"),
        ([], StepTimes(192.0, 128.0), "input-bound"),
    ],
)
def test_verdicts(hosts, steps, expected):
    assert verdict(*hosts, steps=steps) == expected


def test_full_memory_and_disks_are_told():
    host = load("algo-1", "dnn_group", cpu=0.97, accelerator=0.45, memory=0.95, disk=0.5, accelerator_memory=0.99)
    assert diagnose(Observed("job", "test", (host,))).warnings == (
        "algo-1: its memory is 95% full",
        "algo-1: its GPU memory is 99% full",
    )


def test_the_next_command_is_a_plan_with_what_is_known(capsys):
    steps = StepTimes(192.0, 128.0, 8192 / 0.192)
    found = diagnose(Observed("job", "test", (load("algo-1", "dnn_group", cpu=1.0, accelerator=0.33),), steps))
    assert found.command == (
        "hetero-tfdata plan --train-instance ml.p4d.24xlarge --global-batch-size 8192 --cpu-ms-per-sample 2.25 "
        "--accelerator-ms-per-step 64 --wire-bytes-per-sample W --search"
    )
    assert [need[0] for need in found.needs] == ["W"]
    assert main([*found.command.split()[1:-3], "--wire-bytes-per-sample", "3072", "--data-instance", "c5.18xlarge"]) == 0
    assert "192.0" in capsys.readouterr().out


def test_an_emulated_hosts_quota_is_scaled_back():
    steps = StepTimes(192.0, 128.0, 82 / 0.192)
    host = HostLoad("algo-1", "dnn_group", "ml.p4d.24xlarge", cpu=1.0, vcpus=0.96)
    words = diagnose(Observed("job", "test", (host,), steps)).command.split()
    assert words[words.index("--global-batch-size") + 1] == "8200"
    assert float(words[words.index("--cpu-ms-per-sample") + 1]) == pytest.approx(192.0 * 96 / 8200, rel=0.001)


# --- logs


def test_steps_of_a_log_without_the_epoch_that_compiles():
    lines = ["noise", EPOCH.format(1, "900.0", "10.0"), EPOCH.format(2, "192.0", "128.0"), EPOCH.format(3, "194.0", "130.0")]
    assert steps_told(lines) == StepTimes(193.0, 129.0, 42666.7)
    assert steps_told(lines[:2]) == StepTimes(900.0, 10.0, 42666.7)
    assert steps_told(
        ["hetero_tfdata: epoch 1: 12 steps, 4.0 ms/step, input wait 1.0 ms/step, input-bound 25.0 %"]
    ) == StepTimes(4.0, 1.0, None)
    assert steps_told(["hetero_tfdata: epoch 1: 12 steps, 4.0 ms/step, 32.0 images/s"]) == StepTimes(4.0, None, 32.0)
    assert steps_told(["nothing of it"]) is None


def test_a_host_names_its_group_in_its_log():
    assert groups_told(['    "current_instance_group": "data_group",']) == "data_group"
    assert groups_told(["SM_CURRENT_INSTANCE_GROUP=dnn_group"]) == "dnn_group"
    assert groups_told(["no group"]) is None


def test_the_command_reads_a_log(tmp_path, capsys):
    log = tmp_path / "job.log"
    log.write_text("\n".join(["[algo-2] x", EPOCH.format(1, "192.0", "128.0")]))
    assert main(["diagnose", "--log", str(log), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["steps"]["input_wait_ms"]) == ("input-bound", 128.0)
    assert "--accelerator-ms-per-step 64 " in told["next"]


# --- emulated runs


def emulated(tmp_path, cores: float | None = 0.5):
    """Two hosts of 100 s, half a core each; the data host is at its limit, and its link is not."""
    hosts = [
        {"name": name, "group": group, "instance_type": kind, "quota_cores": cores, "quota_gbps": cores and 0.1}
        for name, group, kind in (
            ("algo-1", "data_group", "ml.c5.18xlarge"),
            ("algo-2", "dnn_group", "ml.p4d.24xlarge"),
        )
    ]
    train = {"step_ms": 200.0, "input_wait_ms": 120.0, "images_per_s": 400.0}
    (tmp_path / "summary.json").write_text(json.dumps({"hosts": hosts, "train": train}))
    lines = ["time_s,host,cpu_s,sent_bytes,received_bytes"]
    for second in range(101):
        lines.append(f"{1000 + second},algo-1,{0.49 * second},{1_000_000 * second},0")
        lines.append(f"{1000 + second},algo-2,{0.1 * second},0,{1_000_000 * second}")
    (tmp_path / "timeline.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_the_command_reads_an_emulated_run(tmp_path, capsys):
    report = tmp_path / "report.html"
    assert main(["diagnose", "--summary", str(emulated(tmp_path) / "summary.json"), "--report", str(report), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    by_group = {one["group"]: one for one in told["hosts"]}
    assert told["verdict"] == "cpu-bound"
    assert by_group["data_group"]["cpu"] == pytest.approx(0.98, abs=0.01)
    assert by_group["data_group"]["link"] == pytest.approx(0.08, abs=0.01)
    page = report.read_text()
    checked = HTMLParser()
    checked.feed(page)
    assert page.count("<polyline") == 2
    assert "http://" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "https://" not in page


def test_hosts_without_limits_tell_no_load(tmp_path, capsys):
    assert main(["diagnose", "--summary", str(emulated(tmp_path, None))]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].startswith("input-bound")
    assert "--scale was not given" in out


# --- CloudWatch


@pytest.fixture
def aws(monkeypatch):
    """moto's SageMaker, CloudWatch and logs."""
    for name, value in (("ACCESS_KEY_ID", "testing"), ("SECRET_ACCESS_KEY", "testing"), ("DEFAULT_REGION", REGION)):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with mock_aws():
        yield


def run_job(
    name: str, groups: list[dict], hosts: dict[str, dict[str, float]], logs: dict[str, list[str]] | None = None
) -> None:
    """A finished job of moto's with five minutes of points, each in CloudWatch's own percentages."""
    config = {"InstanceGroups": groups, "VolumeSizeInGB": 10}
    if len(groups) == 1:
        config = {name: groups[0][name] for name in ("InstanceType", "InstanceCount")} | {"VolumeSizeInGB": 10}
    boto3.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/training",
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        ResourceConfig=config,
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.sagemaker.models import sagemaker_backends

    job = sagemaker_backends[DEFAULT_ACCOUNT_ID][REGION].training_jobs[name]
    now = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
    job.training_start_time = (now - datetime.timedelta(minutes=10)).replace(tzinfo=None)
    job.training_end_time = (now - datetime.timedelta(minutes=4)).replace(tzinfo=None)
    watch = boto3.client("cloudwatch")
    for host, figures in hosts.items():
        data = [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "Host", "Value": f"{name}/{host}"}],
                "Timestamp": now - datetime.timedelta(minutes=minutes),
                "Value": 0.0 if minutes == 9 else value,  # a start that counts for nothing
            }
            for metric, value in figures.items()
            for minutes in (9, 8, 7, 6, 5)
        ]
        watch.put_metric_data(Namespace=NAMESPACE, MetricData=data)
    client = boto3.client("logs")
    if logs is not None:
        client.create_log_group(logGroupName=NAMESPACE)
    for host, lines in (logs or {}).items():
        stream = {"logGroupName": NAMESPACE, "logStreamName": f"{name}/{host}-1669999999"}
        client.create_log_stream(**stream)
        time_ms = int((now - datetime.timedelta(minutes=7)).timestamp() * 1000)
        client.put_log_events(**stream, logEvents=[{"timestamp": time_ms, "message": line} for line in lines])


def test_the_published_job_is_cpu_bound(aws, capsys):
    """Percentages are counted per vCPU and per GPU: 9,400 % of CPU on 96 vCPUs, 360 % of GPU on eight."""
    figures = {"CPUUtilization": 9400.0, "GPUUtilization": 360.0, "MemoryUtilization": 12.0}
    run_job("published", [{"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 1}], {"algo-1": figures})
    assert main(["diagnose", "--training-job", "published"]) == 0
    out = capsys.readouterr().out
    shown = "\n".join(out.splitlines()[2:6])
    assert "CPU-bound" in shown
    assert shown in (ROOT / "README.md").read_text()
    assert "hetero-tfdata plan --train-instance ml.p4d.24xlarge --global-batch-size B" in out


def test_hosts_are_grouped_as_their_logs_say(aws):
    busy, idle = {"CPUUtilization": 7000.0}, {"CPUUtilization": 2000.0, "GPUUtilization": 480.0}
    group = '"current_instance_group": "{}",'
    logs = {
        "algo-1": [group.format("dnn_group"), EPOCH.format(1, "900.0", "5.0"), EPOCH.format(2, "120.0", "40.0")],
        "algo-2": [group.format("data_group")],
        "algo-3": [group.format("data_group")],
    }
    run_job("hetero", HETERO, {"algo-1": idle, "algo-2": busy, "algo-3": busy}, logs)
    found = observe("hetero", connect())
    assert {one.host: one.group for one in found.hosts} == {
        "algo-1": "dnn_group",
        "algo-2": "data_group",
        "algo-3": "data_group",
    }
    assert [round(one.cpu, 2) for one in found.hosts] == [0.21, 0.97, 0.97]
    assert found.steps == StepTimes(120.0, 40.0, 42666.7)
    assert diagnose(found).verdict == "cpu-bound"


def test_without_a_log_hosts_are_placed_by_their_gpus(aws):
    busy, idle = {"CPUUtilization": 7000.0}, {"CPUUtilization": 2000.0, "GPUUtilization": 480.0}
    run_job("hetero", HETERO, {"algo-1": busy, "algo-2": idle, "algo-3": busy})
    found = observe("hetero", connect())
    assert [one.group for one in found.hosts] == ["data_group", "dnn_group", "data_group"]
    assert any("its log was not read" in note for note in found.notes)


def test_two_groups_without_gpus_can_not_be_told_apart_without_a_log(aws):
    groups = [*HETERO, {"InstanceGroupName": "other", "InstanceType": "ml.c5.9xlarge", "InstanceCount": 1}]
    hosts = {f"algo-{number}": {"CPUUtilization": 3000.0} for number in (2, 3, 4)}
    run_job("three", groups, {"algo-1": {"CPUUtilization": 2000.0, "GPUUtilization": 480.0}, **hosts})
    found = observe("three", connect())
    assert [one.group for one in found.hosts] == ["dnn_group", None, None, None]
    assert any("algo-2: CPUUtilization of a type that can't be told is left out" in note for note in found.notes)


def test_a_job_that_is_not_there(aws, capsys):
    assert main(["diagnose", "--training-job", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "training job nowhere in us-east-1" in said


def test_a_job_without_points(aws, capsys):
    run_job("fresh", HETERO, {})
    assert main(["diagnose", "--training-job", "fresh"]) == 2
    assert "CloudWatch has no points of it yet" in capsys.readouterr().err


def test_a_job_that_still_runs(aws, capsys):
    run_job("running", HETERO, {"algo-1": {"CPUUtilization": 1.0}})
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.sagemaker.models import sagemaker_backends

    sagemaker_backends[DEFAULT_ACCOUNT_ID][REGION].training_jobs["running"].training_job_status = "InProgress"
    assert main(["diagnose", "--training-job", "running"]) == 2
    assert "training job running is InProgress" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["credentials", "region"])
def test_no_credentials_or_region(missing, monkeypatch, capsys, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    region = ["--region", REGION] if missing == "credentials" else []
    assert main(["diagnose", "--training-job", "published", *region]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert missing in said


# The answer of DescribeTrainingJob of a heterogeneous cluster, as the service documents it, without what is not read.
RECORDED = {
    "TrainingJobName": "recorded",
    "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/recorded",
    "ModelArtifacts": {"S3ModelArtifacts": "s3://bucket/out/recorded/output/model.tar.gz"},
    "TrainingJobStatus": "Completed",
    "SecondaryStatus": "Completed",
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/out"},
    "ResourceConfig": {"VolumeSizeInGB": 10, "InstanceGroups": HETERO, "KeepAlivePeriodInSeconds": 0},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "CreationTime": datetime.datetime(2026, 9, 1, 11, 50, tzinfo=datetime.timezone.utc),
    "TrainingStartTime": datetime.datetime(2026, 9, 1, 12, 0, tzinfo=datetime.timezone.utc),
    "TrainingEndTime": datetime.datetime(2026, 9, 1, 12, 30, tzinfo=datetime.timezone.utc),
    "ProfilerRuleEvaluationStatuses": [{"RuleConfigurationName": "ProfilerReport-1", "RuleEvaluationStatus": "NoIssuesFound"}],
}
PROFILED = {
    "RuleTriggered": 0,
    "Details": {
        "CPU": {"algo-1": {"p50": 20.0}, "algo-2": {"p50": 70.0}, "algo-3": {"p50": 70.0}},
        "GPU": {"algo-1": {"p50": 55.0}},
        "Network": {"algo-1": {"p50": 5.9e9}, "algo-2": {"p50": 3.0e9}, "algo-3": {"p50": 2.9e9}},
        "CPU memory": {},
    },
}


def test_recorded_shapes_and_the_profiler_report(aws, monkeypatch):
    """Points two months old are asked for by five minutes; the profiler report adds the links."""
    clients = connect()
    body = json.dumps(PROFILED).encode()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="bucket")
    s3.put_object(
        Bucket="bucket", Key=f"out/recorded/rule-output/ProfilerReport-1/profiler-output/profiler-reports/{FILE}", Body=body
    )
    asked = []

    class Paginator:
        def __init__(self, pages):
            self.pages = pages

        def paginate(self, **arguments):
            asked.append(arguments)
            return self.pages

    times = [datetime.datetime(2026, 9, 1, 12, 5 * step, tzinfo=datetime.timezone.utc) for step in range(4)]
    values = {"q0": 2000.0, "q1": 480.0, "q5": 7000.0, "q10": 7000.0}  # five figures of each host
    results = [{"Id": name, "Timestamps": times[::-1], "Values": [value] * 4} for name, value in values.items()]
    half = [{**one, "Timestamps": one["Timestamps"][:2], "Values": one["Values"][:2]} for one in results]
    rest = [{**one, "Timestamps": one["Timestamps"][2:], "Values": one["Values"][2:]} for one in results]
    cloudwatch = SimpleNamespace(
        get_paginator=lambda name: Paginator([{"MetricDataResults": half}, {"MetricDataResults": rest}])
    )
    with Stubber(clients.sagemaker) as stubber:
        stubber.add_response("describe_training_job", RECORDED, {"TrainingJobName": "recorded"})
        clients = type(clients)(clients.sagemaker, cloudwatch, clients.logs, clients.s3)
        found = observe("recorded", clients, datetime.datetime(2026, 10, 1, tzinfo=datetime.timezone.utc))
    assert {query["MetricStat"]["Period"] for query in asked[0]["MetricDataQueries"]} == {300}
    assert [one.group for one in found.hosts] == ["dnn_group", "data_group", "data_group"]
    assert [len(one.series["cpu"]) for one in found.hosts] == [4, 4, 4]
    assert [round(one.link, 2) for one in found.hosts] == [0.12, 0.96, 0.93]
    assert diagnose(found).verdict == "network-bound"


def test_a_profiler_report_alone(tmp_path, capsys):
    folder = tmp_path / "profiler-reports"
    folder.mkdir()
    (folder / FILE).write_text(json.dumps(PROFILED))
    assert main(["diagnose", "--profiler-report", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["host"]: one["accelerator"] for one in told["hosts"]} == {"algo-1": 0.55, "algo-2": None, "algo-3": None}
    assert any("no instance types" in note for note in told["notes"])


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of the arguments --training-job --log --summary --profiler-report is required"),
        (["--log", "none.log"], "--log none.log: can't be read"),
        (["--summary", "none.json"], "--summary none.json: expected summary.json"),
        (["--profiler-report", "none.json"], f"none.json: expected {FILE}"),
        (["--log", "empty.log"], "expected lines of the step timer"),
        (["--log", "good.log", "--report", "no/such/folder.html"], "--report no/such/folder.html: can't be written"),
        (["--log", "good.log", "--region", "eu-west-1"], "--region: expected only with --training-job"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.log").write_text("nothing\n")
    (tmp_path / "good.log").write_text(EPOCH.format(1, "192.0", "128.0"))
    try:
        code = main(["diagnose", *arguments])
    except SystemExit as end:
        code = end.code
    assert code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_a_report_that_is_none(tmp_path):
    from hetero_tfdata.plan.profiler_report import parsed

    for content in (
        {},
        {"Details": {}},
        {"Details": {"CPU": {"algo-1": {}}}},
        [],
        {"Details": {"CPU": {"algo-1": {"p50": "x"}}}},
    ):
        with pytest.raises(ConfigurationError, match=FILE):
            parsed(content, "file")

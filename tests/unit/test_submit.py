"""submit: the request that SageMaker would get, without an account or a network, and what is uploaded."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import hetero_tfdata
from hetero_tfdata.cli import main
from hetero_tfdata.sagemaker import Channel, FileSystem, Group, Job, read
from hetero_tfdata.sagemaker.metrics import DEFINITIONS
from hetero_tfdata.sagemaker.request import TOKEN, python, rendered
from hetero_tfdata.sagemaker.source import staged, wheel
from hetero_tfdata.service.health_port import job_token
from support import clean_environment

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("recipes/*/job*.toml"))
needs_sdk = pytest.mark.skipif(find_spec("sagemaker") is None, reason="the SageMaker SDK is not installed")
GOLDENS = Path(__file__).parent / "requests"
GROUPS = (Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1))


def settled(request: dict) -> dict:
    """Without what is new each time."""
    return json.loads(re.sub(r"-\d{4}(-\d\d){5}-\d{3}", "-TIME", json.dumps(request)))


def named(file: Path) -> str:
    return file.parent.name + file.stem.removeprefix("job")


@needs_sdk
@pytest.mark.parametrize("file", RECIPES, ids=named)
def test_the_request_of_a_recipe(file):
    request = settled(rendered(read(file)))
    golden = GOLDENS / f"{named(file)}.json"
    assert request == json.loads(golden.read_text()), "as it was reviewed: hetero-tfdata submit --dry-run shows the new one"


@needs_sdk
def test_the_command_needs_no_account_and_prints_json_alone(tmp_path):
    environment = {name: value for name, value in clean_environment().items() if not name.startswith("AWS_")}
    environment |= {"HOME": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "hetero_tfdata", "submit", "--dry-run", str(RECIPES[0])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Environment"]["HETERO_TFDATA_TOKEN"] == TOKEN
    assert job_token({"HETERO_TFDATA_TOKEN": TOKEN}) == TOKEN
    assert done.stderr == ""


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "launcher.py").write_text("print()\n")
    return folder


@needs_sdk
def test_what_a_job_may_have_is_in_its_request(source):
    system = FileSystem("fs-0123456789abcdef0", "FSxLustre", "/mount/train")
    job = Job(
        source,
        GROUPS,
        distribution="dnn_group",
        processes_per_host=8,
        mpi_options="-x NCCL_DEBUG=WARN",
        channels={"train": Channel(file_system=system), "eval": Channel("s3://bucket/eval", input_mode="FastFile")},
        checkpoints="s3://bucket/checkpoints",
        output="s3://bucket/out",
        role="arn:aws:iam::123456789012:role/training",
        max_runtime_s=3600,
        max_wait_s=7200,
        subnets=["subnet-1"],
        security_groups=["sg-1"],
        encrypts_traffic=True,
        tags={"team": "vision"},
        environment={"A": "b"},
        has_profiler=True,
    )
    request = rendered(job)
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert request["EnableManagedSpotTraining"] is True
    assert request["EnableInterContainerTrafficEncryption"] is True
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert {"Key": "team", "Value": "vision"} in request["Tags"]
    assert request["Environment"] == {"A": "b", "HETERO_TFDATA_TOKEN": TOKEN}
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://bucket/out"}
    sources = {one["ChannelName"]: one["DataSource"] for one in request["InputDataConfig"]}
    assert sources["train"]["FileSystemDataSource"]["DirectoryPath"] == "/mount/train"
    assert request["HyperParameters"]["sagemaker_mpi_custom_mpi_options"] == '"-x NCCL_DEBUG=WARN"'
    assert not request.get("ProfilerConfig", {}).get("DisableProfiler")
    (rule,) = request["ProfilerRuleConfigurations"]
    assert rule["RuleParameters"] == {"rule_to_invoke": "ProfilerReport"}


@needs_sdk
def test_channels_of_some_groups(source):
    channels = {"train": Channel("s3://bucket/train", groups=["data_group"])}
    request = rendered(Job(source, GROUPS, distribution="dnn_group", channels=channels, has_token=False, has_metrics=False))
    (channel,) = request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["InstanceGroupNames"] == ["data_group"]
    assert "Environment" not in request
    assert "MetricDefinitions" not in request["AlgorithmSpecification"]


@needs_sdk
def test_a_homogeneous_job_has_no_groups(source):
    request = rendered(Job(source, GROUPS, distribution="dnn_group").homogeneous())
    assert "InstanceGroups" not in request["ResourceConfig"]
    assert (request["ResourceConfig"]["InstanceType"], request["ResourceConfig"]["InstanceCount"]) == ("ml.p4d.24xlarge", 1)


def test_the_role_and_the_report_are_in_the_python_too(source):
    role = "arn:aws:iam::123456789012:role/training"
    text = python(Job(source, GROUPS, distribution="dnn_group", has_profiler=True), role)
    assert f"role={role!r}" in text
    assert "rules=[ProfilerRule.sagemaker(rule_configs.ProfilerReport())]" in text
    compile(text, "notebook", "exec")


@needs_sdk
def test_the_python_asks_for_the_same(source, monkeypatch):
    """What --estimator prints makes the same request, but for the token."""
    job = Job(
        source,
        GROUPS,
        distribution="dnn_group",
        processes_per_host=8,
        channels={"train": Channel("s3://bucket/train", groups=["data_group"], input_mode="FastFile")},
        environment={"A": "b"},
        role="arn:aws:iam::123456789012:role/training",
    )
    from hetero_tfdata.sagemaker import request

    with request._nobody_asked("us-east-1") as (session, asked):
        text = python(job).replace("TensorFlow(\n", "TensorFlow(\n    sagemaker_session=session,\n")
        text = text.replace("fit({", "fit(wait=False, inputs={")
        exec(text, {"session": session})
    sent = settled(next(parameters for operation, parameters in asked if operation == "CreateTrainingJob"))
    expected = settled(rendered(job))
    token = sent["Environment"].pop("HETERO_TFDATA_TOKEN")
    assert job_token({"HETERO_TFDATA_TOKEN": token}) == token
    del expected["Environment"]["HETERO_TFDATA_TOKEN"]
    assert sent == expected


def test_the_upload_holds_the_source_and_this_package_and_nothing_else(source, tmp_path):
    (source / "requirements.txt").write_text("pyyaml\n./hetero_tfdata-0.0.1-py3-none-any.whl\n")
    (source / "__pycache__").mkdir()
    (source / ".git").mkdir()
    (source / "job.toml").touch()
    (source / "job-other.toml").touch()
    (source / "data/train").mkdir(parents=True)
    (source / "data/train/photographs.tfrecord").touch()
    (source / "data/classes.txt").touch()
    groups = [Group("data_group", "ml.c5.xlarge", 1), Group("dnn_group", "ml.p3.2xlarge", 1)]
    channels = {"train": Channel(s3="s3://bucket/train", local="data/train")}
    copy = staged(Job(source, groups, channels=channels), tmp_path)
    name = f"hetero_tfdata-{hetero_tfdata.__version__}-py3-none-any.whl"
    files = sorted(str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file())
    assert files == sorted(["data/classes.txt", "launcher.py", "requirements.txt", name])
    assert (copy / "requirements.txt").read_text().splitlines() == ["pyyaml", f"./{name}"]
    with zipfile.ZipFile(copy / name) as archive:
        names = archive.namelist()
        about = archive.read(f"hetero_tfdata-{hetero_tfdata.__version__}.dist-info/METADATA").decode()
    assert "hetero_tfdata/cluster/instances.tsv" in names
    assert not [one for one in names if "__pycache__" in one or one.startswith("tests")]
    assert "tensorflow" not in about.lower()


def test_the_wheel_installs_without_an_index(tmp_path):
    """And it is the package that is packed: pip checks each file against its digest in RECORD."""
    made = wheel(tmp_path)
    assert made.read_bytes() == wheel(tmp_path).read_bytes(), "the same files make the same wheel"
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target), str(made)]
    subprocess.run(command, check=True, timeout=120)
    seen = subprocess.run(
        [sys.executable, "-c", "import hetero_tfdata; print(hetero_tfdata.__file__, hetero_tfdata.__version__)"],
        env={**clean_environment(), "PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert seen == [str(target / "hetero_tfdata/__init__.py"), hetero_tfdata.__version__]


def test_metrics_are_read_from_the_step_timers_lines():
    from hetero_tfdata.train.step_timer import EpochTiming

    line = f"rank 0 | {EpochTiming(3, 100, 192.04, 128.3, 42666.7)}"
    found = {one["Name"].partition(":")[2]: re.search(one["Regex"], line).group(1) for one in DEFINITIONS}
    assert found == {"step_ms": "192.0", "input_wait_ms": "128.3", "input_bound_percent": "66.8", "images_per_s": "42666.7"}


def test_bad_input_is_one_line(tmp_path, capsys):
    assert main(["submit", "--dry-run", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "expected a job file" in said
    assert said.count("\n") == 1

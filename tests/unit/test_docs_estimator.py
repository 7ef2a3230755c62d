"""The estimator that README shows asks SageMaker for the job that README emulates."""

from __future__ import annotations

import datetime
import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import botocore.client
import botocore.loaders
import botocore.model
import botocore.validate
import pytest

from hetero_tfdata import cli
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.variables import Variables
from hetero_tfdata.emulate.view import HostView

pytest.importorskip("sagemaker")

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ACCOUNT = "123456789012"
BUCKET = f"sagemaker-us-east-1-{ACCOUNT}"
ANSWERS = {
    "GetCallerIdentity": {"Account": ACCOUNT},
    "ListBuckets": {"Buckets": [{"Name": BUCKET, "CreationDate": datetime.datetime(2026, 1, 1)}]},
}


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """Requests that would go to AWS, which is not reached: (operation, parameters)."""
    quiet = tmp_path / "config.yaml"
    quiet.write_text("SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n")
    for name, value in {
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": str(quiet),
    }.items():
        monkeypatch.setenv(name, value)
    asked = []

    def answer(client, operation, parameters):
        asked.append((operation, parameters))
        return ANSWERS.get(operation, {})

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", answer)
    monkeypatch.setattr("sagemaker.session.Session.logs_for_job", lambda *_, **__: None)  # until the job ends
    return asked


def emulated(monkeypatch, tmp_path):
    """The job of README's command line, as the emulator gets it."""
    command = re.search(r"```\n(hetero-tfdata emulate .*?)\n```", README, re.DOTALL).group(1)
    words = shlex.split(command.replace("\\\n", " "))[1:]
    words[words.index("--channel") + 1] = f"train={tmp_path}"
    jobs = []
    monkeypatch.setattr("hetero_tfdata.emulate.run", lambda job, **_: jobs.append(job) or SimpleNamespace(exit_code=0))
    assert cli.main(words) == 0
    return jobs[0]


def groups_of(request):
    return [
        (one["InstanceGroupName"], one["InstanceType"], one["InstanceCount"])
        for one in request["ResourceConfig"]["InstanceGroups"]
    ]


def hyperparameters_of(job):
    group = job.groups[0]
    host = Host("algo-1", group.name, group.instance_type, "127.0.0.1", 20000)
    return Variables(job, (host,), host, HostView(Path("/opt/ml"))).hyperparameters()


def test_the_shown_estimator_asks_for_the_shown_job(aws, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    job = emulated(monkeypatch, tmp_path)
    shown = re.search(r"```python\n(from sagemaker\.instance_group.*?)```", README, re.DOTALL).group(1)
    exec(shown, {"role": f"arn:aws:iam::{ACCOUNT}:role/training"})
    request = next(parameters for operation, parameters in aws if operation == "CreateTrainingJob")

    service = botocore.loaders.Loader().load_service_model("sagemaker", "service-2")
    model = botocore.model.ServiceModel(service).operation_model("CreateTrainingJob").input_shape
    assert not botocore.validate.ParamValidator().validate(request, model).has_errors()

    assert groups_of(request) == [(group.name, group.instance_type, group.count) for group in job.groups]
    assert {channel["ChannelName"] for channel in request["InputDataConfig"]} == set(job.channels)
    told, here = request["HyperParameters"], hyperparameters_of(job)
    own = {"sagemaker_job_name", "sagemaker_submit_directory"}  # the job's name, and where its source comes from
    assert told.keys() ^ here.keys() == {"sagemaker_region"}
    for key in here.keys() - own:
        assert json.loads(told[key]) == json.loads(here[key]), key

"""A job through the SageMaker SDK's TensorFlow estimator: the request that it sends, and the same as Python to paste."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.sagemaker.channel import Channel
from hetero_tfdata.sagemaker.job import Job
from hetero_tfdata.sagemaker.metrics import DEFINITIONS
from hetero_tfdata.sagemaker.source import staged
from hetero_tfdata.service.health_port import TOKEN_VARIABLE

__all__ = ["ROLE", "TOKEN", "arguments", "estimator", "inputs", "python", "rendered", "sdk"]

# What stands in a dry run for what only a submission has.
ROLE = "arn:aws:iam::123456789012:role/EXECUTION-ROLE"
TOKEN = "A-RANDOM-TOKEN-PER-SUBMISSION"
_ACCOUNT = "123456789012"


def arguments(job: Job, token: str | None = TOKEN, role: str | None = None) -> dict[str, Any]:
    """The estimator's arguments, of plain values; groups are (name, type, count) and `distribution_group` is a name."""
    environment = dict(job.environment)
    if job.has_token and token is not None:
        environment[TOKEN_VARIABLE] = token
    found: dict[str, Any] = {
        "base_job_name": job.name,
        "entry_point": job.entry_point,
        "role": role or job.role or ROLE,
        "hyperparameters": dict(job.hyperparameters),
        "max_run": job.max_runtime_s,
        "volume_size": job.volume_gib,
        "model_dir": False,  # else the SDK adds a hyperparameter of that name
        "debugger_hook_config": False,  # else groups and checkpoints together raise TypeError (sagemaker-python-sdk issue 5227)
        "disable_profiler": not job.has_profiler,
    }
    if job.image_uri:
        found["image_uri"] = job.image_uri
    else:
        assert job.image is not None
        found |= {"framework_version": job.framework_version, "py_version": job.image.python}
    if job.is_heterogeneous:
        found["instance_groups"] = [(group.name, group.instance_type, group.count) for group in job.groups]
    else:
        found |= {"instance_type": job.groups[0].instance_type, "instance_count": job.groups[0].count}
        if job.keep_alive_s is not None:
            found["keep_alive_period_in_seconds"] = job.keep_alive_s
    if job.distribution is not None:
        mpi: dict[str, Any] = {"enabled": True, "processes_per_host": job.processes_per_host}
        if job.mpi_options:
            mpi["custom_mpi_options"] = job.mpi_options
        found["distribution"] = {"mpi": mpi}
        if job.is_heterogeneous:
            found["distribution_group"] = job.distribution
    if job.max_wait_s is not None:
        found |= {"use_spot_instances": True, "max_wait": job.max_wait_s}
    if job.has_metrics:
        found["metric_definitions"] = [dict(one) for one in DEFINITIONS]
    optional = {
        "environment": environment,
        "checkpoint_s3_uri": job.checkpoints,
        "output_path": job.output,
        "subnets": list(job.subnets),
        "security_group_ids": list(job.security_groups),
        "encrypt_inter_container_traffic": job.encrypts_traffic,
        "enable_network_isolation": job.is_isolated,
        "tags": [{"Key": key, "Value": value} for key, value in job.tags.items()],
    }
    return found | {name: value for name, value in optional.items() if value}


def estimator(job: Job, source_dir: Path, session: Any, token: str | None = TOKEN, role: str | None = None) -> Any:
    """The SDK's estimator.

    Raises:
        ConfigurationError: the SDK is missing or refuses it.
    """
    sdk()
    from sagemaker.instance_group import InstanceGroup
    from sagemaker.tensorflow import TensorFlow

    found = arguments(job, token, role)
    if "instance_groups" in found:
        groups = [InstanceGroup(*group) for group in found["instance_groups"]]
        found["instance_groups"] = groups
        name = found.pop("distribution_group", None)
        if name is not None:
            # the very same object: the SDK compares by identity
            found["distribution"]["instance_groups"] = [group for group in groups if group.instance_group_name == name]
    if job.has_profiler:
        from sagemaker.debugger import ProfilerRule, rule_configs

        found["rules"] = [ProfilerRule.sagemaker(rule_configs.ProfilerReport())]  # the SDK adds none by itself
    try:
        return TensorFlow(source_dir=str(source_dir), sagemaker_session=session, **found)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the SageMaker SDK refuses it: {' '.join(str(error).split())}") from None


def inputs(job: Job) -> dict[str, Any] | None:
    """What `estimator.fit` takes; None without channels."""
    from sagemaker.inputs import FileSystemInput, TrainingInput

    def one(channel: Channel) -> Any:
        assert channel.s3 is not None or channel.file_system is not None
        if channel.file_system is not None:
            system = channel.file_system
            return FileSystemInput(system.id, system.type, system.directory, file_system_access_mode="ro")
        mode = None if channel.input_mode == "File" else channel.input_mode
        return TrainingInput(str(channel.s3), input_mode=mode, instance_groups=list(channel.groups) or None)

    return {name: one(channel) for name, channel in job.channels.items()} or None


def sdk() -> Any:
    """The SageMaker SDK 2.x, which says nothing of its own but errors: standard output is for answers.

    Raises:
        ConfigurationError: it is missing, or it is 3.x, which has no framework estimators.
    """
    os.environ.setdefault("SAGEMAKER_SUPPRESS_V2_WARNING", "1")
    config = logging.getLogger("sagemaker.config")
    config.setLevel(logging.WARNING)
    try:
        import sagemaker
        import sagemaker.tensorflow
    except ImportError:
        raise ConfigurationError("this needs the SageMaker SDK 2.x: pip install 'hetero-tfdata[sagemaker]'") from None
    for name in ("sagemaker", "sagemaker.config", "sagemaker.image_uris", "sagemaker.telemetry.telemetry_logging"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="sagemaker")
    return sagemaker


def rendered(job: Job, region: str = "us-east-1", role: str | None = None) -> dict[str, Any]:
    """The CreateTrainingJob request as the SDK makes it; nothing is uploaded, no account or network is asked.

    Raises:
        ConfigurationError: the SDK refuses the job, or the request does not fit the service's model.
    """
    with tempfile.TemporaryDirectory() as folder, _nobody_asked(region) as (session, asked):
        made = estimator(job, staged(job, Path(folder)), session, TOKEN, role)
        made.fit(inputs(job), wait=False)
    request: dict[str, Any] = next(parameters for operation, parameters in asked if operation == "CreateTrainingJob")
    _require_fitting(request)
    return request


def _require_fitting(request: Mapping[str, Any]) -> None:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    service = ServiceModel(Loader().load_service_model("sagemaker", "service-2"))
    report = ParamValidator().validate(dict(request), service.operation_model("CreateTrainingJob").input_shape)
    if report.has_errors():
        raise ConfigurationError(f"CreateTrainingJob would refuse it: {' '.join(report.generate_report().split())}")


@contextlib.contextmanager
def _nobody_asked(region: str) -> Iterator[tuple[Any, list[tuple[str, dict[str, Any]]]]]:
    """A session of the SDK whose calls to AWS are answered here, and the list of them."""
    asked: list[tuple[str, dict[str, Any]]] = []
    bucket = f"sagemaker-{region}-{_ACCOUNT}"
    answers = {
        "GetCallerIdentity": {"Account": _ACCOUNT},
        "ListBuckets": {"Buckets": [{"Name": bucket, "CreationDate": datetime.datetime(2026, 1, 1)}]},
    }

    def answer(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
        asked.append((operation, parameters))
        return answers.get(operation, {})

    # nothing of the user's own configuration, which may name a profile that isn't there
    variables = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}
    with mock.patch.dict(os.environ, variables), mock.patch("botocore.client.BaseClient._make_api_call", answer):
        os.environ.pop("AWS_PROFILE", None)
        sagemaker = sdk()  # in here: importing it looks for credentials
        import boto3
        from sagemaker.telemetry import telemetry_logging

        boto = boto3.Session("none", "none", region_name=region)
        with mock.patch.object(telemetry_logging, "_send_telemetry_request"):
            # an empty configuration: each look into another one checks all of it, seconds in all
            yield sagemaker.Session(boto_session=boto, default_bucket=bucket, sagemaker_config={}), asked


def python(job: Job, role: str | None = None) -> str:
    """The same job as Python for a notebook; the folder needs the package's wheel, which `submit` would add.

    Args:
        job: the job.
        role: instead of the job's.
    """
    found = arguments(job, None, role)
    lines = ["# first: pip wheel --no-deps -w SOURCE_DIR . in a checkout of hetero_tfdata, and in SOURCE_DIR/requirements.txt"]
    lines += ["# ./hetero_tfdata-VERSION-py3-none-any.whl", *(["import secrets", ""] if job.has_token else [])]
    lines.append("from sagemaker import get_execution_role")
    if job.has_profiler:
        lines.append("from sagemaker.debugger import ProfilerRule, rule_configs")
    if job.channels:
        lines.append("from sagemaker.inputs import FileSystemInput, TrainingInput")
    if job.is_heterogeneous:
        lines.append("from sagemaker.instance_group import InstanceGroup")
    lines += ["from sagemaker.tensorflow import TensorFlow", ""]
    groups = found.pop("instance_groups", None)
    name = found.pop("distribution_group", None)
    shown: dict[str, str] = {}
    if groups:
        names = {group[0]: _identifier(group[0]) for group in groups}
        lines += [f"{names[group[0]]} = InstanceGroup({', '.join(map(repr, group))})" for group in groups]
        shown["instance_groups"] = f"[{', '.join(names.values())}]"
        if name is not None:
            distribution = found.pop("distribution")
            shown["distribution"] = f"{{'mpi': {distribution['mpi']!r}, 'instance_groups': [{names[name]}]}}"
    if job.has_profiler:
        shown["rules"] = "[ProfilerRule.sagemaker(rule_configs.ProfilerReport())]"
    if (role or job.role) is None:
        found.pop("role")
        shown["role"] = "get_execution_role()"
    if job.has_token:
        own = "".join(f"{key!r}: {value!r}, " for key, value in found.pop("environment", {}).items())
        shown["environment"] = f"{{{own}{TOKEN_VARIABLE!r}: secrets.token_urlsafe()}}"
    lines += ["estimator = TensorFlow(", f"    source_dir={str(job.source_dir)!r},"]
    lines += [f"    {key}={value!r}," for key, value in found.items()]
    lines += [f"    {key}={text}," for key, text in shown.items()]
    lines += [")", f"estimator.fit({_inputs(job)})"]
    return "\n".join(lines)


def _inputs(job: Job) -> str:
    parts = []
    for name, channel in job.channels.items():
        if channel.file_system is not None:
            system = channel.file_system
            text = f"FileSystemInput({system.id!r}, {system.type!r}, {system.directory!r}, file_system_access_mode='ro')"
        else:
            mode = "" if channel.input_mode == "File" else f", input_mode={channel.input_mode!r}"
            groups = f", instance_groups={list(channel.groups)!r}" if channel.groups else ""
            text = f"TrainingInput({channel.s3!r}{mode}{groups})"
        parts.append(f"{name!r}: {text}")
    return f"{{{', '.join(parts)}}}" if parts else ""


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name) if name[:1].isalpha() else f"group_{name}"

"""What SageMaker and sagemaker-training tell a host: configuration files, SM_* variables, command line.

A stand-in for `sagemaker_training.environment.Environment`, whose names and formats it reproduces without importing it:
that package brings boto3 and creates folders. tests/cluster/test_toolkit.py holds the two against each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from hetero_tfdata.emulate.hosts import Host, master
from hetero_tfdata.emulate.job import Job
from hetero_tfdata.emulate.view import HostView

__all__ = ["Variables", "command_arguments", "inherited"]

# A job's own variables must not leak into the hosts of another: an emulator may run inside a SageMaker job.
_FOREIGN_PREFIXES = ("SM_", "SAGEMAKER_", "OMPI_", "PMI_", "PMIX_", "HOROVOD_", "HETERO_TFDATA_")
_FOREIGN = {"TF_CONFIG", "TRAINING_JOB_NAME", "TRAINING_JOB_ARN", "CURRENT_HOST", "AWS_REGION"}
# The SDK sends every script's level along; 20 is logging.INFO, its default.
_LOG_LEVEL = 20


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what belongs to a job of its own."""
    return {name: value for name, value in environ.items() if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN}


def command_arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """Hyperparameters on a command line: --key value, sorted by key, one-letter keys as -k, as the toolkit does."""
    arguments = []
    for key in sorted(hyperparameters):
        value = hyperparameters[key]
        if isinstance(value, dict):
            text = ",".join(f"{name}={inner}" for name, inner in sorted(value.items()))
        else:
            text = "" if value is None else str(value)
        arguments += [f"--{key}" if len(key) > 1 else f"-{key}", text]
    return arguments


class Variables:
    """What one host is told; `view.base_dir` is its /opt/ml."""

    def __init__(self, job: Job, hosts: tuple[Host, ...], host: Host, view: HostView) -> None:
        self.job, self.hosts, self.host, self.view = job, hosts, host, view
        self.code_dir = view.base_dir / "code"
        self.channels = job.channels_of(host.group)

    def resource_config(self) -> dict[str, Any]:
        """resourceconfig.json; SageMaker sorts host names lexicographically (algo-10 before algo-2)."""
        return {
            "current_host": self.host.name,
            "current_instance_type": self.host.instance_type,
            "current_group_name": self.host.group,
            "hosts": sorted(host.name for host in self.hosts),
            "instance_groups": [
                {
                    "instance_group_name": group.name,
                    "instance_type": group.instance_type,
                    "hosts": self._members(group.name),
                }
                for group in self.job.groups
            ],
            "network_interface_name": self.view.network_interface,
        }

    def input_data_config(self) -> dict[str, Any]:
        """inputdataconfig.json: every channel of the host's group as a fully replicated folder."""
        same = {"S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
        return {name: {"TrainingInputMode": channel.mode, **same} for name, channel in self.channels.items()}

    def hyperparameters(self) -> dict[str, str]:
        """hyperparameters.json: the user's and those that the SageMaker SDK adds, each value encoded as JSON."""
        values = {
            **self.job.hyperparameters,
            "sagemaker_container_log_level": _LOG_LEVEL,
            "sagemaker_job_name": self.job.name,
            "sagemaker_program": self.job.entry_point,
            "sagemaker_submit_directory": str(self.code_dir),
            **self._framework_parameters(),
        }
        return {key: json.dumps(value) for key, value in values.items()}

    def container(self) -> dict[str, str]:
        """What SageMaker and the image tell the container."""
        given = self.job.environment
        return {**given, **self.view.variables, "TRAINING_JOB_NAME": self.job.name, "PYTHONUNBUFFERED": "1"}

    def environment(self) -> dict[str, str]:
        """The container's variables and what the toolkit adds; PYTHONPATH is the host process's to extend."""
        told = {"SAGEMAKER_JOB_NAME": self.job.name, "SAGEMAKER_REGION": "", "CURRENT_HOST": self.host.name}
        return self.container() | told | self.toolkit()

    def toolkit(self) -> dict[str, str]:
        """SM_*, which are those of the entry point; mpirun hands its own host's to all ranks."""
        return {f"SM_{key.upper()}": _format(value) for key, value in self._toolkit_variables().items()}

    def _toolkit_variables(self) -> dict[str, Any]:
        properties = self._toolkit_properties()
        hyperparameters = dict(self.job.hyperparameters)
        same = {
            key: properties[key]
            for key in (
                "hosts",
                "network_interface_name",
                "user_entry_point",
                "resource_config",
                "input_data_config",
                "output_data_dir",
                "current_host",
                "current_instance_type",
                "current_instance_group",
                "current_instance_group_hosts",
                "instance_groups",
                "instance_groups_dict",
                "distribution_instance_groups",
                "is_hetero",
                "module_name",
                "log_level",
                "framework_module",
                "input_dir",
                "input_config_dir",
                "output_dir",
                "num_cpus",
                "num_gpus",
                "num_neurons",
                "model_dir",
                "module_dir",
                "output_intermediate_dir",
            )
        }
        return {
            **same,
            "hps": hyperparameters,
            "framework_params": properties["additional_framework_parameters"],
            "channels": sorted(self.channels),
            "training_env": properties,
            "user_args": command_arguments(hyperparameters),
            **{f"channel_{name}": path for name, path in self._channel_folders().items()},
            **{f"hp_{key}": value for key, value in hyperparameters.items()},
        }

    def _toolkit_properties(self) -> dict[str, Any]:
        """The properties of sagemaker-training 5.1's Environment, which are SM_TRAINING_ENV."""
        base, job = self.view.base_dir, self.job
        config = self.resource_config()
        group_names = [group.name for group in job.groups]
        distribution_hosts = self._members(job.distribution) if job.distribution else []
        master_host = master(job, self.hosts) or config["hosts"][0]
        return {
            "additional_framework_parameters": self._framework_parameters(),
            "channel_input_dirs": self._channel_folders(),
            "current_host": self.host.name,
            "current_instance_group": self.host.group,
            "current_instance_group_hosts": self._members(self.host.group),
            "current_instance_type": self.host.instance_type,
            "distribution_hosts": distribution_hosts,
            "distribution_instance_groups": [job.distribution] if job.distribution else [],
            "framework_module": None,
            "hosts": config["hosts"],
            "hyperparameters": dict(job.hyperparameters),
            "input_config_dir": str(base / "input" / "config"),
            "input_data_config": self.input_data_config(),
            "input_dir": str(base / "input"),
            "instance_groups": group_names,
            "instance_groups_dict": {group["instance_group_name"]: group for group in config["instance_groups"]},
            "is_hetero": job.is_heterogeneous,
            "is_master": self.host.name == master_host,
            "is_modelparallel_enabled": None,
            "is_smddpmprun_installed": False,
            "is_smddprun_installed": False,
            "job_name": job.name,
            "log_level": _LOG_LEVEL,
            "master_hostname": master_host,
            "model_dir": str(base / "model"),
            "module_dir": str(self.code_dir),
            "module_name": job.entry_point.removesuffix(".py"),
            "network_interface_name": config["network_interface_name"],
            "num_cpus": os.cpu_count(),  # the machine's, as the toolkit says it: more than an affinity mask may allow
            # What the instance type has: the toolkit asks nvidia-smi, which gpus.py has the host say.
            "num_gpus": job.gpus_of(self.host.group),
            "num_neurons": 0,
            "output_data_dir": str(base / "output" / "data"),
            "output_dir": str(base / "output"),
            "output_intermediate_dir": str(base / "output" / "intermediate"),
            "resource_config": config,
            "topology": [],
            "user_entry_point": job.entry_point,
        }

    def _framework_parameters(self) -> dict[str, Any]:
        """What the SDK derives from `distribution={"mpi": {...}, "instance_groups": [...]}`."""
        if self.job.distribution is None:
            return {}
        return {
            "sagemaker_distribution_instance_groups": [self.job.distribution],
            "sagemaker_mpi_custom_mpi_options": "",
            "sagemaker_mpi_enabled": True,
            "sagemaker_mpi_num_of_processes_per_host": self.job.processes_per_host,
        }

    def _channel_folders(self) -> dict[str, str]:
        """The same path on every host, so that a tf.data graph built on one names files that another can open."""
        return {name: self.view.channel(name, channel.folder) for name, channel in self.channels.items()}

    def _members(self, group: str) -> list[str]:
        return sorted(host.name for host in self.hosts if host.group == group)


def _format(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))

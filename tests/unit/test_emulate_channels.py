from __future__ import annotations

from pathlib import Path

import pytest

from hetero_tfdata.emulate import Group, Job
from hetero_tfdata.emulate.channels import Channel, parse_channel
from hetero_tfdata.emulate.hosts import Host
from hetero_tfdata.emulate.variables import Variables
from hetero_tfdata.emulate.view import HostView
from hetero_tfdata.errors import ConfigurationError

GROUPS = [Group("data_group", "ml.c5.18xlarge", 1), Group("dnn_group", "ml.p4d.24xlarge", 1)]


def job(folder: Path, **channels: Channel | Path) -> Job:
    (folder / "train.py").touch()
    return Job(GROUPS, folder, "train.py", channels=channels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train=data/train", ("train", Channel("data/train"))),
        ("train@data_group=data/a=b", ("train", Channel("data/a=b", ["data_group"]))),
        ("train@data_group,dnn_group=data", ("train", Channel("data", ["data_group", "dnn_group"]))),
    ],
)
def test_a_channel_is_parsed(text: str, expected: tuple[str, Channel]) -> None:
    assert parse_channel(text) == expected


@pytest.mark.parametrize("text", ["train", "train=", "=data", "train@=data", "train@a,=data", "@a=data"])
def test_a_bad_channel_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"expected NAME=DIR such as train=data/train, or NAME@GROUP\[,GROUP\]=DIR"):
        parse_channel(text)


def test_a_mode_is_file_or_fastfile() -> None:
    assert parse_channel("train=data", "FastFile")[1].mode == "FastFile"
    with pytest.raises(ConfigurationError, match="'Pipe' is not emulated, expected File or FastFile"):
        parse_channel("train=data", "Pipe")


def test_groups_of_a_channel_are_the_jobs(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'data_grp' is not in this job \(groups: data_group, dnn_group\)"):
        job(tmp_path, train=Channel(tmp_path, ["data_grp"]))


def test_all_channels_name_groups_or_none_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"all channels or for none; name them all, such as test@data_group,dnn_group"):
        job(tmp_path, train=Channel(tmp_path, ["data_group"]), test=tmp_path)


@pytest.mark.parametrize("group", ["data_group", "dnn_group"])
def test_a_host_is_told_of_its_groups_channels_alone(tmp_path: Path, group: str) -> None:
    described = job(
        tmp_path, train=Channel(tmp_path, ["data_group"], "FastFile"), test=Channel(tmp_path, ["data_group", "dnn_group"])
    )
    host = Host("algo-1", group, "ml.c5.18xlarge", "127.0.0.1")
    told = Variables(described, (host,), host, HostView(Path("/opt/ml"), shared_channels=False))
    names = ["test", "train"] if group == "data_group" else ["test"]
    assert sorted(told.input_data_config()) == names
    assert {name: one["TrainingInputMode"] for name, one in told.input_data_config().items()} == {
        name: {"train": "FastFile", "test": "File"}[name] for name in names
    }
    environment = told.environment()
    assert environment["SM_CHANNELS"] == "[" + ",".join(f'"{name}"' for name in names) + "]"
    assert environment["SM_CHANNEL_TEST"] == "/opt/ml/input/data/test"
    assert ("SM_CHANNEL_TRAIN" in environment) == (group == "data_group")

"""job.toml: the job that it describes, and every rule that a mistake in it breaks, each in one line."""

from __future__ import annotations

import pytest

from hetero_tfdata.errors import ConfigurationError
from hetero_tfdata.sagemaker import Channel, FileSystem, Group, Job, read

GROUPS = """
[groups.data_group]
instance_type = "ml.c5.18xlarge"
count = 2

[groups.dnn_group]
instance_type = "ml.p4d.24xlarge"

[distribution]
group = "dnn_group"
processes_per_host = 8
"""
SIX = "".join(f'[groups.group{number}]\ninstance_type = "ml.c5.18xlarge"\n' for number in range(6))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "launcher.py").touch()
    return tmp_path


def told(folder, text: str) -> Job:
    (folder / "job.toml").write_text(text)
    return read(folder)


def test_a_whole_file(folder):
    job = told(
        folder,
        """
name = "cifar"
checkpoints = "s3://bucket/checkpoints"
max_runtime_s = 3600
max_wait_s = 7200
encrypts_traffic = true
subnets = ["subnet-1"]
security_groups = ["sg-1"]
"""
        + GROUPS
        + """
[hyperparameters]
epochs = 3
names = ["a", "b"]

[environment]
TF_CPP_MIN_LOG_LEVEL = "2"

[tags]
team = "vision"

[channels.train]
s3 = "s3://bucket/train"
groups = ["data_group"]
input_mode = "FastFile"
local = "data"
""",
    )
    assert job.groups == (Group("data_group", "ml.c5.18xlarge", 2), Group("dnn_group", "ml.p4d.24xlarge", 1))
    assert (job.distribution, job.processes_per_host, job.source_dir) == ("dnn_group", 8, folder)
    assert job.hyperparameters == {"epochs": 3, "names": ["a", "b"]}
    assert job.channels == {"train": Channel("s3://bucket/train", None, ("data_group",), "FastFile", "data")}
    assert (job.max_wait_s, job.tags, job.encrypts_traffic) == (7200, {"team": "vision"}, True)
    assert (job.image.version, job.image.python, job.image.horovod) == ("2.12", "py310", "0.27.0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SIX, "expected 1 to 5 groups (SageMaker's limit), got 6"),
        (GROUPS + '[groups.data_group]\ninstance_type = "ml.c5.xlarge"', "expected TOML: "),
        (GROUPS.replace('group = "dnn_group"', 'group = ["dnn_group", "data_group"]'), "expected the name of one group"),
        (GROUPS.replace('group = "dnn_group"', 'group = "dnn"'), "distribution group 'dnn' is not in this job"),
        ("keep_alive_s = 600\n" + GROUPS, "heterogeneous clusters have no warm pools"),
        (
            GROUPS.replace("ml.c5.18xlarge", "ml.c5.17xlarge"),
            "SageMaker trains on no ml.c5.17xlarge; did you mean ml.c5.18xlarge",
        ),
        (GROUPS.replace("ml.c5.18xlarge", "local"), "SageMaker's local mode refuses groups"),
        ('framework_version = "2.15"\n' + GROUPS, "SageMaker has no such TensorFlow training image"),
        ('framework_version = "2.19"\n' + GROUPS, "this image has no Horovod"),
        ("max_wait_s = 10\n" + GROUPS, "expected at least max_runtime_s (86400)"),
        ("max_runtime_s = 10000000\n" + GROUPS, "(28 days)"),
        ('subnets = ["subnet-1"]\n' + GROUPS, "a VPC needs both subnets and security_groups"),
        ('name = "two words"\n' + GROUPS, "letters, digits and hyphens"),
        ('checkpoints = "/opt/ml/checkpoints"\n' + GROUPS, "checkpoints: expected an address such as s3://"),
        ('role = "admin"\n' + GROUPS, "role: expected an ARN"),
        ("epochs = 3\n" + GROUPS, "epochs is unknown"),
        ("volume_gb = 3\n" + GROUPS, "volume_gb is unknown; did you mean volume_gib?"),
        ('max_runtime_s = "1 h"\n' + GROUPS, "max_runtime_s: expected a whole number, got '1 h'"),
        ("has_token = 1\n" + GROUPS, "has_token: expected true or false, got 1"),
        ("[environment]\nA = 1\n" + GROUPS, "environment: expected a table"),
        ('[tags]\n"aws:x" = "y"\n' + GROUPS, "none of which begins with aws:"),
        (GROUPS + "[hyperparameters]\nsagemaker_program = 1", "does not begin with sagemaker_"),
        (GROUPS + '[channels.train]\ns3 = "bucket/train"', "channels.train: expected an address such as s3://bucket/folder"),
        (GROUPS + '[channels.train]\nlocal = "data"', "channels.train: expected either s3"),
        (
            GROUPS + '[channels.train]\ns3 = "s3://bucket/x"\ninput_mode = "Pipe"',
            "expected input_mode File or FastFile, got 'Pipe'",
        ),
        (
            GROUPS + '[channels.a]\ns3 = "s3://bucket/a"\ngroups = ["data_group"]\n[channels.b]\ns3 = "s3://bucket/b"',
            "expected groups for all channels or for none (SageMaker's rule): a have them, b have not",
        ),
        (
            GROUPS + '[channels.a]\ngroups = ["dnn_group"]\n'
            'file_system = {id = "fs-0123456789abcdef0", type = "EFS", directory = "/x"}',
            "a file system can't be given to some groups only",
        ),
        (
            GROUPS + '[channels.a]\nfile_system = {id = "fs-0123456789abcdef0", type = "EFS", directory = "/x"}',
            "a file system is reached from its VPC only",
        ),
        ('name = "x"', "expected instance groups"),
        ('entry_point = "lancher.py"\n' + GROUPS, "did you mean launcher.py?"),
        ("[groups", "expected TOML"),
    ],
)
def test_each_rule_is_told_in_one_line(folder, text, said):
    with pytest.raises(ConfigurationError) as error:
        told(folder, text)
    line = str(error.value)
    assert said in line
    assert line.startswith(str(folder / "job.toml"))
    assert "\n" not in line


def test_a_duplicate_name_in_python(folder):
    groups = [Group("data", "ml.c5.xlarge", 1), Group("data", "ml.c5.xlarge", 1)]
    with pytest.raises(ConfigurationError, match="group 'data' is given 2 times"):
        Job(folder, groups)


def test_nothing_can_be_downloaded_where_there_is_no_network(folder):
    groups = [Group("cpus", "ml.c5.xlarge", 1)]
    (folder / "requirements.txt").write_text("# ours\n./hetero_tfdata-0.1.0-py3-none-any.whl\n")
    assert Job(folder, groups, is_isolated=True)
    (folder / "requirements.txt").write_text("tensorflow-addons==0.20\n")
    with pytest.raises(ConfigurationError, match=r"requirements.txt asks for tensorflow-addons==0.20"):
        Job(folder, groups, is_isolated=True)


def test_an_isolated_job_has_a_channel_of_the_sdk_for_all_groups(folder):
    groups = [Group("data_group", "ml.c5.xlarge", 1), Group("dnn_group", "ml.p3.2xlarge", 1)]
    assert Job(folder, groups, is_isolated=True, channels={"train": Channel("s3://bucket/train")})
    with pytest.raises(ConfigurationError, match="channel 'train': expected no groups with is_isolated"):
        Job(folder, groups, is_isolated=True, channels={"train": Channel("s3://bucket/train", groups=["data_group"])})


def test_a_file_system_is_for_all_hosts(folder):
    system = FileSystem("fs-0123456789abcdef0", "FSxLustre", "/mount/train")
    groups = [Group("cpus", "ml.c5.xlarge", 1)]
    assert Job(folder, groups, channels={"train": Channel(file_system=system)}, subnets=["s"], security_groups=["g"])
    with pytest.raises(ConfigurationError, match="absolute directory"):
        FileSystem("fs-0123456789abcdef0", "FSxLustre", "mount/train")


def test_homogeneous_leaves_the_data_groups_out(folder):
    job = told(folder, GROUPS + '[channels.train]\ns3 = "s3://bucket/train"\ngroups = ["data_group"]\n').homogeneous()
    assert [group.name for group in job.groups] == ["dnn_group"]
    assert job.channels["train"].groups == ()
    other = told(folder, '[groups.a]\ninstance_type = "ml.c5.xlarge"\n[groups.b]\ninstance_type = "ml.c5.xlarge"\n')
    with pytest.raises(ConfigurationError, match="to tell which one trains"):
        other.homogeneous()


def test_the_emulator_takes_the_same_job(folder):
    (folder / "data").mkdir()
    job = told(folder, GROUPS + '[channels.train]\ns3 = "s3://bucket/train"\nlocal = "data"\n')
    emulated = job.emulated(folder)
    assert (emulated.groups, emulated.distribution, emulated.processes_per_host) == (job.groups, "dnn_group", 8)
    assert emulated.channels["train"].folder == folder / "data"
    without = told(folder, GROUPS + '[channels.train]\ns3 = "s3://bucket/train"\n')
    with pytest.raises(ConfigurationError, match="expected a folder for the emulator"):
        without.emulated(folder)


def test_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="expected a job file"):
        read(tmp_path)

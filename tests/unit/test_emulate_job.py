from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hetero_tfdata.cli import main
from hetero_tfdata.emulate import Group, Job, run
from hetero_tfdata.emulate.job import parse_accelerators, parse_hyperparameter
from hetero_tfdata.errors import ConfigurationError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.py").write_text("")
    (folder / "train.sh").write_text("")
    return folder


def job(source: Path, *groups: str, **options: Any) -> Job:
    parsed = [Group.parse(text) for text in groups or ("cpu=ml.c5.xlarge:1", "gpu=ml.p4d.24xlarge:2")]
    return Job(parsed, source, options.pop("entry_point", "train.py"), **options)


def test_a_group_is_parsed_from_name_type_and_count() -> None:
    assert Group.parse("data_group=ml.c5.18xlarge:2") == Group("data_group", "ml.c5.18xlarge", 2)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("data_group", "expected NAME=TYPE:COUNT such as data_group=ml.c5.18xlarge:2, got 'data_group'"),
        ("data_group=ml.c5.18xlarge", "expected NAME=TYPE:COUNT"),
        ("data_group=ml.c5.18xlarge:two", "expected NAME=TYPE:COUNT"),
        ("=ml.c5.18xlarge:1", "expected a name of 1 to 64 characters"),
        ("x" * 65 + "=ml.c5.18xlarge:1", "expected a name of 1 to 64 characters"),
        ("data_group=c5.18xlarge:2", "expected an instance type such as ml.c5.18xlarge, got 'c5.18xlarge'"),
        ("data_group=local:2", "expected an instance type"),
        ("data_group=ml.c5.18xlarge:0", "expected a count of at least 1, got 0"),
        ("data_group=ml.c5.18xlarge:-1", "expected a count of at least 1, got -1"),
    ],
)
def test_a_bad_group_is_refused(text: str, phrase: str) -> None:
    with pytest.raises(ConfigurationError, match=phrase.replace(".", r"\.")):
        Group.parse(text)


def test_a_job_may_not_name_a_group_twice(source: Path) -> None:
    with pytest.raises(ConfigurationError, match="group 'gpu' is given 2 times"):
        job(source, "gpu=ml.c5.xlarge:1", "gpu=ml.p4d.24xlarge:1")


def test_a_job_has_one_to_five_groups(source: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"1 to 5 groups \(SageMaker's limit\), got 6"):
        job(source, *(f"group{number}=ml.c5.xlarge:1" for number in range(6)))
    with pytest.raises(ConfigurationError, match="got 0"):
        Job([], source, "train.py")


def test_the_distribution_names_a_group_of_the_job(source: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'gpus' is not in this job \(groups: cpu, gpu\); did you mean gpu\?"):
        job(source, distribution="gpus")


def test_processes_per_host_need_a_distribution_and_are_positive(source: Path) -> None:
    with pytest.raises(ConfigurationError, match="need a distribution"):
        job(source, processes_per_host=2)
    with pytest.raises(ConfigurationError, match="at least 1 process per host, got 0"):
        job(source, distribution="gpu", processes_per_host=0)


@pytest.mark.parametrize(
    ("entry_point", "phrase"),
    [
        ("trane.py", r"is not in the source folder .*; did you mean train\.py\?"),
        ("../train.py", "expected a path inside the source folder"),
        ("/etc/train.py", "expected a path inside the source folder"),
        ("train.sh", r"expected a \.py file"),
        ("a train.py", "only letters, digits"),
        ("-train.py", "only letters, digits"),
        ("", r"expected a \.py file"),
    ],
)
def test_the_entry_point_is_a_python_file_in_the_source_folder(source: Path, entry_point: str, phrase: str) -> None:
    with pytest.raises(ConfigurationError, match=phrase):
        job(source, entry_point=entry_point)


def test_channels_are_existing_folders(source: Path) -> None:
    with pytest.raises(ConfigurationError, match="channel 'train': folder /no/where does not exist"):
        job(source, channels={"train": "/no/where"})
    with pytest.raises(ConfigurationError, match="is no folder"):
        job(source, channels={"train": source / "train.py"})
    with pytest.raises(ConfigurationError, match="channel 'a b': expected 1 to 64 letters"):
        job(source, channels={"a b": source})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=3", 3),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=null", None),
        ("x=[1, 2]", [1, 2]),
        ('x={"a": 1}', {"a": 1}),
        ('x="3"', "3"),
        ("x=adam", "adam"),
        ("x=NaN", "NaN"),
        ("x=a=b", "a=b"),
        ("x=", ""),
    ],
)
def test_a_hyperparameter_is_json_where_it_parses(text: str, value: Any) -> None:
    assert parse_hyperparameter(text) == ("x", value)


def test_bad_hyperparameters_are_refused(source: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected KEY=VALUE such as epochs=3, got 'epochs'"):
        parse_hyperparameter("epochs")
    with pytest.raises(ConfigurationError, match="does not begin with sagemaker_"):
        job(source, hyperparameters={"sagemaker_program": "x.py"})
    with pytest.raises(ConfigurationError, match="hyperparameter 'x': expected a JSON value"):
        job(source, hyperparameters={"x": object()})
    job(source, hyperparameters={"x": "y" * 2498})
    with pytest.raises(ConfigurationError, match=r"a value of up to 2500 as JSON \(SageMaker's limits\), got 1 and 2501"):
        job(source, hyperparameters={"x": "y" * 2499})
    with pytest.raises(ConfigurationError, match="expected up to 100 hyperparameters, got 101"):
        job(source, hyperparameters={f"x{number}": number for number in range(101)})


def test_gpus_are_those_of_the_instance_type_or_what_was_said(source: Path) -> None:
    groups = [Group.parse(text) for text in ("cpu=ml.c5.xlarge:1", "gpu=ml.p4d.24xlarge:1", "trn=ml.trn1.32xlarge:1")]
    assert [Job(groups, source, "train.py").gpus_of(group.name) for group in groups] == [0, 8, 0]
    assert parse_accelerators(["2"], groups, None) == {"gpu": 2}
    assert parse_accelerators(["2", "gpu=3"], groups, "cpu") == {"cpu": 2, "gpu": 3}
    given = Job(groups, source, "train.py", accelerators={"gpu": 2, "cpu": 1})
    assert [given.gpus_of(group.name) for group in groups] == [1, 2, 0]
    with pytest.raises(ConfigurationError, match="no group of this job has any; say which, as GROUP=2"):
        parse_accelerators(["2"], groups[:1], None)


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        (["--group", "more"], "expected NAME=TYPE:COUNT"),
        (["--source-dir", "missing"], "source folder missing does not exist"),
        (
            ["--channel", "train"],
            "--channel: expected NAME=DIR such as train=data/train, or NAME@GROUP[,GROUP]=DIR, got 'train'",
        ),
        (["--channel", "train=missing"], "channel 'train': folder missing does not exist"),
        (["--channel", "a=source", "--channel", "a=source"], "--channel: 'a' is given twice"),
        (["-p", "x=1", "-p", "x=2"], "-p: 'x' is given twice"),
        (["--distribution", "gppu"], "did you mean gpu?"),
        (["--processes-per-host", "2"], "--processes-per-host needs --distribution"),
        (["--isolation", "docker"], "isolation 'docker' is not offered, expected process or namespace"),
        (["--scale", "72"], "limits (--scale, --link-scale, --memory-gib) need --isolation namespace"),
        (["--isolation", "namespace", "--scale", "-1"], "expected a scale of 0 (no limits) or more, got -1"),
        (["--timeout-s", "0"], "expected a time limit of more than 0 seconds"),
        (["--stagger", "-1"], "expected a stagger of 0 seconds or more, got -1"),
        (["--input-mode", "Pipe", "--channel", "a=source"], "'Pipe' is not emulated, expected File or FastFile"),
        (["--channel", "a@gppu=source"], "channel 'a': group 'gppu' is not in this job"),
        (["--checkpoints", "source/train.py"], "checkpoints source/train.py is no folder"),
        (["--output", "kept", "--checkpoints", "kept/checkpoints"], "which the job reads; choose another one"),
        (["--accelerators", "cpu"], "expected N or GROUP=N such as dnn_group=2, got 'cpu'"),
        (["--accelerators", "gppu=2"], "not a group of this job (groups: cpu, gpu)"),
        (["--fault", "5s:explode:algo-1"], "expected kill-worker, kill-dispatcher"),
        (["--fault", "5s:cut:algo-1"], "a plain process has no link"),
        (["--fault", "5s:kill-host:algo-9"], "'algo-9' is not in this job"),
        (["--state", "source"], "is a folder"),
        (["--output", "source"], "which the job reads; choose another one"),
        (["--output", "."], "which the job reads; choose another one"),
        (["--output", "source/train.py"], "expected a folder, it is a file"),
        (["--output", "other"], "expected a new or empty folder, or one of an earlier emulator run; it holds precious"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_and_creates_nothing(
    tmp_path: Path,
    source: Path,
    changes: list[str],
    phrase: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    before = sorted(tmp_path.rglob("*"))
    argv = ["emulate", "--group", "cpu=ml.c5.xlarge:1", "--group", "gpu=ml.p4d.24xlarge:1", "--source-dir", "source"]
    assert main([*argv, *changes, "train.py"]) == 2
    error = capsys.readouterr().err
    assert phrase in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_distribution_without_horovod_says_how_to_install_it(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'hetero-tfdata\[horovod\]'"):
        run(job(source, distribution="gpu"), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()

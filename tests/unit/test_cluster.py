from __future__ import annotations

import json
from pathlib import Path

import pytest

from hetero_tfdata import Cluster, errors
from hetero_tfdata.cluster import Role
from hetero_tfdata.cluster.mpi import Ranks
from hetero_tfdata.cluster.topology import FIRST_PORT

HETEROGENEOUS = {
    "current_host": "algo-3",
    "current_instance_type": "ml.p4d.24xlarge",
    "current_group_name": "dnn_group",
    "hosts": ["algo-1", "algo-10", "algo-2", "algo-3"],
    "network_interface_name": "eth0",
    "instance_groups": [
        {"instance_group_name": "data_group", "instance_type": "ml.c5.18xlarge", "hosts": ["algo-10", "algo-2"]},
        {"instance_group_name": "dnn_group", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-3", "algo-1"]},
    ],
}


@pytest.fixture
def base(tmp_path: Path):
    def write(config: object, **environ: str) -> dict[str, str]:
        folder = tmp_path / "input" / "config"
        folder.mkdir(parents=True, exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "resourceconfig.json").write_text(text)
        return {"SAGEMAKER_BASE_DIR": str(tmp_path), **environ}

    return write


def changed(**changes: object) -> dict[str, object]:
    return {key: value for key, value in (HETEROGENEOUS | changes).items() if value is not None}


def test_heterogeneous_job(base):
    cluster = Cluster.discover(
        environ=base(
            HETEROGENEOUS,
            OMPI_COMM_WORLD_RANK="0",
            OMPI_COMM_WORLD_SIZE="16",
            OMPI_COMM_WORLD_LOCAL_RANK="0",
            OMPI_COMM_WORLD_LOCAL_SIZE="8",
        )
    )
    assert cluster.role is Role.TRAINING
    assert cluster.group.name == "dnn_group"
    assert cluster.is_heterogeneous
    assert cluster.is_leader
    assert [host.name for host in cluster.data_hosts] == ["algo-2", "algo-10"], "natural order, not the file's"
    assert [host.name for host in cluster.training_hosts] == ["algo-3", "algo-1"], "the file's order is mpirun's"
    assert cluster.dispatcher_host.name == "algo-2"
    assert cluster.leader_host.name == "algo-3"
    assert cluster.here.address == "algo-3"
    assert cluster.here.first_port == FIRST_PORT


def test_every_host_gives_the_same_answer(base):
    answers = set()
    for host in HETEROGENEOUS["hosts"]:
        cluster = Cluster.discover(environ=base(changed(current_host=host)))
        answers.add((cluster.dispatcher_host, cluster.leader_host, cluster.data_hosts, cluster.groups))
        assert cluster.here.name == host
        assert cluster.role is (Role.DATA if host in ("algo-10", "algo-2") else Role.TRAINING)
    assert len(answers) == 1


def test_file_wins_over_mpirun_copy_of_the_masters_variables(base):
    environ = base(changed(current_host="algo-1"), SM_RESOURCE_CONFIG=json.dumps(HETEROGENEOUS), SM_CURRENT_HOST="algo-3")
    assert Cluster.discover(environ=environ).current_host == "algo-1"


def test_variables_alone_are_enough(tmp_path):
    cluster = Cluster.discover(environ={"SM_RESOURCE_CONFIG": json.dumps(HETEROGENEOUS)})
    assert cluster.current_host == "algo-3"
    assert len(cluster.data_hosts) == 2


@pytest.mark.parametrize(
    "groups",
    [
        None,
        [],
        [{"instance_group_name": "homogeneousCluster", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-1", "algo-2"]}],
    ],
)
def test_homogeneous_job(base, groups):
    config = changed(instance_groups=groups, hosts=["algo-1", "algo-2"], current_host="algo-2", current_group_name=None)
    one = Cluster.discover(
        environ=base(
            config,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": ["algo-1:2222", "algo-2:2222"]}, "task": {"type": "worker", "index": 1}}
            ),
        )
    )
    assert not one.is_heterogeneous
    assert one.role is Role.TRAINING
    assert one.ranks == Ranks(1, 2, launcher="TF_CONFIG")
    assert [host.name for host in one.serving_hosts] == ["algo-1", "algo-2"], "several ranks share one stream"


def test_homogeneous_job_of_one_process_serves_nothing(base):
    config = changed(instance_groups=None, hosts=["algo-1"], current_host="algo-1")
    cluster = Cluster.discover(environ=base(config))
    assert cluster.serving_hosts == ()
    assert cluster.dispatcher_host is None
    assert cluster.is_leader


def test_training_hosts_without_mpi_are_ranks_in_file_order(base):
    cluster = Cluster.discover(environ=base(changed(current_host="algo-1")))
    assert (cluster.ranks.rank, cluster.ranks.size) == (1, 2)


def test_laptop():
    cluster = Cluster.discover(environ={})
    assert cluster.serving_hosts == ()
    assert cluster.ranks == Ranks()
    assert cluster.run_id != Cluster.discover(environ={}).run_id


def test_laptop_ranks_agree_and_two_runs_differ():
    def run(port: str, rank: str) -> Cluster:
        return Cluster.discover(
            environ={
                "HOROVOD_RANK": rank,
                "HOROVOD_SIZE": "2",
                "HOROVOD_LOCAL_RANK": rank,
                "HOROVOD_LOCAL_SIZE": "2",
                "HOROVOD_GLOO_RENDEZVOUS_PORT": port,
            }
        )

    assert run("4711", "0").run_id == run("4711", "1").run_id
    assert run("4711", "0").hosts == run("4711", "1").hosts
    assert run("4711", "0").run_id != run("4712", "0").run_id


@pytest.mark.parametrize(
    ("names", "environ", "asked", "training"),
    [
        (("data_group", "dnn_group"), {}, {}, ["dnn_group"]),
        (("cpus", "gpus"), {"SM_DISTRIBUTION_INSTANCE_GROUPS": '["gpus"]'}, {}, ["gpus"]),
        (("cpus", "gpus"), {}, {"cpus": "data"}, ["gpus"]),
        (("cpus", "gpus"), {}, {"gpus": Role.TRAINING}, ["gpus"]),
        (("cpus", "gpus"), {"HETERO_TFDATA_ROLES": "gpus=training,cpus=ignored"}, {}, ["gpus"]),
        (("data_group", "gpus"), {}, {}, ["gpus"]),
        # what is said wins over the distribution
        (("a", "b"), {"SM_DISTRIBUTION_INSTANCE_GROUPS": '["a"]'}, {"a": "data", "b": "training"}, ["b"]),
    ],
)
def test_roles(base, names, environ, asked, training):
    groups = [
        {"instance_group_name": name, "instance_type": "ml.c5.xlarge", "hosts": [f"algo-{i + 1}"]}
        for i, name in enumerate(names)
    ]
    config = changed(hosts=["algo-1", "algo-2"], current_host="algo-1", instance_groups=groups)
    cluster = Cluster.discover(roles=asked, environ=base(config, **environ))
    assert [group.name for group in cluster.groups if group.role is Role.TRAINING] == training


def test_ignored_group_is_no_data_group(base):
    cluster = Cluster.discover(roles={"data_group": "ignored"}, environ=base(changed(current_host="algo-2")))
    assert cluster.data_hosts == ()
    assert cluster.role is Role.IGNORED


def test_roles_that_cannot_be_told_name_the_groups_and_both_ways(base):
    groups = [
        {"instance_group_name": name, "instance_type": "ml.c5.xlarge", "hosts": [f"algo-{i}"]}
        for i, name in ((1, "cpus"), (2, "gpus"))
    ]
    config = changed(hosts=["algo-1", "algo-2"], current_host="algo-1", instance_groups=groups)
    with pytest.raises(errors.RoleError, match=r"cpus, gpus.*data_group and dnn_group.*--role cpus=data"):
        Cluster.discover(environ=base(config))


def test_unknown_group_in_roles_suggests_the_near_one(base):
    with pytest.raises(errors.RoleError, match=r"'data_grp' is not in this job .*did you mean data_group\?"):
        Cluster.discover(roles={"data_grp": "data"}, environ=base(HETEROGENEOUS))


def test_unknown_role(base):
    with pytest.raises(errors.RoleError, match="data, training or ignored, got 'cpu'"):
        Cluster.discover(environ=base(HETEROGENEOUS, HETERO_TFDATA_ROLES="data_group=cpu"))


@pytest.mark.parametrize(
    ("config", "phrase"),
    [
        ("{", "resourceconfig.json: expected a JSON object, got text that is no JSON"),
        ("[]", "expected a JSON object, got list"),
        (changed(hosts=None), "key 'hosts' is missing"),
        (changed(hosts="algo-1"), "key 'hosts': expected a non-empty list, got string 'algo-1'"),
        (changed(hosts=[]), "key 'hosts': expected a non-empty list"),
        (changed(hosts=["algo-3", 4]), "key 'hosts': expected host names, got int 4"),
        (changed(hosts=["algo-3", "algo-3"]), "key 'hosts': expected each host once"),
        (changed(current_host="algo-9"), r"key 'current_host': expected one of 'hosts' .*got 'algo-9'"),
        (changed(current_host=None), "key 'current_host' is missing"),
        (changed(instance_groups={"a": 1}), "key 'instance_groups': expected a list of objects"),
        (changed(instance_groups=[{"instance_group_name": "g"}]), r"key 'instance_groups\[0\].instance_type' is missing"),
        (changed(instance_groups=HETEROGENEOUS["instance_groups"][:1]), "algo-1, algo-3 is in none"),
        (changed(instance_groups=HETEROGENEOUS["instance_groups"] * 2), "'data_group' stands there twice"),
    ],
)
def test_malformed_resource_configuration_names_file_and_key(base, config, phrase):
    with pytest.raises(errors.ResourceConfigError, match=phrase) as raised:
        Cluster.discover(environ=base(config))
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == 2


def test_base_dir_without_the_file_is_an_error(tmp_path):
    with pytest.raises(errors.ResourceConfigError, match=r"resourceconfig.json: expected this file because SAGEMAKER_BASE_DIR"):
        Cluster.discover(environ={"SAGEMAKER_BASE_DIR": str(tmp_path)})


def test_distribution_groups_from_hyperparameters(base, tmp_path):
    environ = base(
        changed(
            instance_groups=[
                {"instance_group_name": "x", "instance_type": "ml.c5.xlarge", "hosts": ["algo-10", "algo-2"]},
                {"instance_group_name": "y", "instance_type": "ml.p4d.24xlarge", "hosts": ["algo-3", "algo-1"]},
            ]
        )
    )
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text(
        json.dumps({"sagemaker_distribution_instance_groups": '["y"]', "epochs": "3"})
    )
    assert Cluster.discover(environ=environ).group.name == "y"
    assert Cluster.discover(environ=environ).role is Role.TRAINING


def test_addresses_variable(base):
    environ = base(HETEROGENEOUS, HETERO_TFDATA_ADDRESSES='{"algo-2": "127.0.0.1:21000"}')
    cluster = Cluster.discover(environ=environ)
    assert (cluster.dispatcher_host.address, cluster.dispatcher_host.dispatcher_port) == ("127.0.0.1", 21000)
    assert cluster.dispatcher_host.owns_worker("127.0.0.1:21010")
    assert not cluster.dispatcher_host.owns_worker("127.0.0.1:21100")
    with pytest.raises(errors.ConfigurationError, match="HETERO_TFDATA_ADDRESSES: expected JSON"):
        Cluster.discover(environ=base(HETEROGENEOUS, HETERO_TFDATA_ADDRESSES="algo-2"))


@pytest.mark.parametrize(
    ("environ", "phrase"),
    [
        ({"OMPI_COMM_WORLD_RANK": "0"}, "expected OMPI_COMM_WORLD_SIZE beside mpirun's other variables"),
        (
            {"HOROVOD_RANK": "x", "HOROVOD_SIZE": "1", "HOROVOD_LOCAL_RANK": "0", "HOROVOD_LOCAL_SIZE": "1"},
            "expected a number in HOROVOD_RANK, got 'x'",
        ),
        (
            {"HOROVOD_RANK": "2", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "0", "HOROVOD_LOCAL_SIZE": "1"},
            "variables disagree",
        ),
        ({"TF_CONFIG": "{}"}, "expected TF_CONFIG like"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}'}, "index below"),
    ],
)
def test_malformed_ranks(environ, phrase):
    with pytest.raises(errors.ConfigurationError, match=phrase):
        Ranks.from_environment(environ)


def test_tf_config_chief_is_rank_0():
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "task": {"type": "worker", "index": 1}}
    assert Ranks.from_environment({"TF_CONFIG": json.dumps(config)}) == Ranks(2, 3, launcher="TF_CONFIG")

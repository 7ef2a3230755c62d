"""The cluster of a training job as one frozen value: hosts, groups, roles, addresses, ranks."""

from __future__ import annotations

import difflib
import json
import os
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from hetero_tfdata.cluster import sagemaker
from hetero_tfdata.cluster.mpi import Ranks
from hetero_tfdata.errors import ConfigurationError, RoleError

__all__ = ["Cluster", "Host", "InstanceGroup", "Role"]

# The block of ports that belongs to a host. 18100 is below Linux's ephemeral range (32768-60999), so that no outgoing
# connection takes one of them first, and IANA has nothing common registered there.
FIRST_PORT = 18100
PORTS_PER_HOST = 100
_FIRST_WORKER = 10

ADDRESSES_VARIABLE = "HETERO_TFDATA_ADDRESSES"
ROLES_VARIABLE = "HETERO_TFDATA_ROLES"

_DEFAULT_ROLES = {"data_group": "data", "dnn_group": "training"}


class Role(str, Enum):
    """What an instance group does in the job."""

    DATA = "data"
    TRAINING = "training"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Host:
    """One instance of the job.

    Attributes:
        name: SageMaker's name, such as "algo-1".
        address: name or IP address under which the other hosts reach it.
        first_port: the first of the 100 ports that belong to hetero_tfdata on this host.
    """

    name: str
    address: str
    first_port: int = FIRST_PORT

    @property
    def dispatcher_port(self) -> int:
        """Where the dispatcher listens, if this is the dispatcher host."""
        return self.first_port

    @property
    def health_port(self) -> int:
        """Where the host tells the others how it is."""
        return self.first_port + 1

    @property
    def lifeline_port(self) -> int:
        """Where a rank that owns the host's servers learns when the other ranks have ended."""
        return self.first_port + 2

    @property
    def strategy_port(self) -> int:
        """Where tf.distribute's processes meet, in jobs without Horovod."""
        return self.first_port + 3

    @property
    def worker_ports(self) -> range:
        """The ports that workers may use."""
        return range(self.first_port + _FIRST_WORKER, self.first_port + PORTS_PER_HOST)

    def owns_worker(self, address: str) -> bool:
        """Whether a worker advertised as "host:port" is one of this host's."""
        name, _, port = address.rpartition(":")
        return name == self.address and port.isdigit() and int(port) in self.worker_ports


@dataclass(frozen=True)
class InstanceGroup:
    """An instance group of the job, its hosts in the order of SageMaker's file."""

    name: str
    instance_type: str
    hosts: tuple[str, ...]
    role: Role


@dataclass(frozen=True)
class Cluster:
    """The hosts of the job, and this process's place among them; the same on every host but for that place.

    Attributes:
        groups: the instance groups; exactly one for a homogeneous job, a laptop or a notebook.
        hosts: all hosts.
        current_host: the name of the host this process runs on.
        ranks: this process's place among the training processes; meaningless on a data host.
        run_id: names this run of the training; equal in all ranks, unequal in the next run where the launcher or
            SageMaker makes that possible.
    """

    groups: tuple[InstanceGroup, ...]
    hosts: tuple[Host, ...]
    current_host: str
    ranks: Ranks = field(default_factory=Ranks)
    run_id: str = "run"

    @classmethod
    def discover(cls, *, roles: Mapping[str, Role | str] | None = None, environ: Mapping[str, str] | None = None) -> Cluster:
        """Reads SageMaker's files and variables and those of the launcher (mpirun, horovodrun, TF_CONFIG), once.

        Args:
            roles: group name -> "data", "training" or "ignored"; wins over the variable HETERO_TFDATA_ROLES
                ("cpus=data,gpus=training"), which wins over the distribution groups, which win over the names
                `data_group` and `dnn_group`. A group left over is a data group where a training group is known.
            environ: the variables to read instead of os.environ.

        Raises:
            ResourceConfigError: SageMaker's configuration is malformed; names the file, the key and what was expected.
            RoleError: the groups' roles can't be told.
            ConfigurationError: a variable is malformed.
        """
        environ = os.environ if environ is None else environ
        ranks = Ranks.from_environment(environ)
        config = sagemaker.read(environ)
        if config is None:
            return _without_sagemaker(ranks, environ)
        groups = config.groups or (("homogeneousCluster", "", config.hosts),)
        asked = _roles_variable(environ) | {name: _role(role, name) for name, role in (roles or {}).items()}
        role_of = _roles([name for name, _, _ in groups], asked, sagemaker.distribution_groups(environ))
        resolved = tuple(InstanceGroup(name, kind, hosts, role_of[name]) for name, kind, hosts in groups)
        training_hosts = [host for group in resolved if group.role is Role.TRAINING for host in group.hosts]
        if ranks.launcher is None and len(training_hosts) > 1 and config.current_host in training_hosts:
            # no MPI, no TF_CONFIG: SageMaker starts the script once on every training host
            ranks = Ranks(rank=training_hosts.index(config.current_host), size=len(training_hosts))
        endpoints = _addresses_variable(environ)
        return cls(
            groups=resolved,
            hosts=tuple(_host(name, endpoints) for name in config.hosts),
            current_host=config.current_host,
            ranks=ranks,
            run_id=_run_id(sagemaker.training_job_name(environ), ranks),
        )

    def host(self, name: str) -> Host:
        """The host of that name."""
        return next(host for host in self.hosts if host.name == name)

    @property
    def here(self) -> Host:
        """The host this process runs on."""
        return self.host(self.current_host)

    @property
    def group(self) -> InstanceGroup:
        """The instance group of this host."""
        return next(group for group in self.groups if self.current_host in group.hosts)

    @property
    def role(self) -> Role:
        """What this host does."""
        return self.group.role

    @property
    def data_hosts(self) -> tuple[Host, ...]:
        """The hosts of the data groups, in natural order (algo-2 before algo-10); empty in a homogeneous job."""
        return self._hosts_of(Role.DATA, natural_order=True)

    @property
    def training_hosts(self) -> tuple[Host, ...]:
        """The hosts of the training groups, in the order of SageMaker's file, which is mpirun's."""
        return self._hosts_of(Role.TRAINING, natural_order=False)

    @property
    def serving_hosts(self) -> tuple[Host, ...]:
        """The hosts whose workers run the dataset.

        The data hosts; where there are none, the training hosts if several ranks share the dataset; else none.
        """
        if self.data_hosts or self.ranks.size == 1:
            return self.data_hosts
        return tuple(sorted(self.training_hosts, key=lambda host: _natural(host.name)))

    @property
    def dispatcher_host(self) -> Host | None:
        """The first serving host, the same answer on every host; None where nothing is served."""
        return self.serving_hosts[0] if self.serving_hosts else None

    @property
    def leader_host(self) -> Host:
        """The host of rank 0: mpirun fills the hosts in the order of SageMaker's file."""
        return self.training_hosts[0]

    @property
    def is_leader(self) -> bool:
        """Whether this process is rank 0 of the training."""
        return self.role is Role.TRAINING and self.ranks.rank == 0

    @property
    def is_heterogeneous(self) -> bool:
        """Whether the job has data hosts."""
        return bool(self.data_hosts)

    def _hosts_of(self, role: Role, *, natural_order: bool) -> tuple[Host, ...]:
        names = [name for group in self.groups if group.role is role for name in group.hosts]
        return tuple(self.host(name) for name in (sorted(names, key=_natural) if natural_order else names))


def _without_sagemaker(ranks: Ranks, environ: Mapping[str, str]) -> Cluster:
    """A laptop or a notebook: one host, whoever the ranks are."""
    run_id = _run_id(None, ranks)
    # Two runs side by side on one machine must not meet on one port: their common run id spreads them over 20000-29900.
    first_port = 20000 + zlib.crc32(run_id.encode()) % 100 * PORTS_PER_HOST
    host = _addresses_variable(environ).get("localhost", Host("localhost", "127.0.0.1", first_port))
    if ranks.launcher is not None and ranks.size > ranks.local_size:
        raise ConfigurationError(
            f"expected SageMaker's resourceconfig.json where {ranks.launcher} runs {ranks.size} ranks on several hosts, "
            "found none; run inside a SageMaker job, or give distribute(service='grpc://host:port')"
        )
    group = InstanceGroup("homogeneousCluster", "", (host.name,), Role.TRAINING)
    return Cluster((group,), (host,), host.name, ranks, run_id)


def _run_id(job_name: str | None, ranks: Ranks) -> str:
    parts = [part for part in (job_name, ranks.run_id) if part]
    if not parts and ranks.size == 1:
        parts = [uuid.uuid4().hex[:12]]
    return "-".join(parts) or "run"


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _host(name: str, endpoints: Mapping[str, Host]) -> Host:
    return endpoints.get(name) or Host(name, name)


def _addresses_variable(environ: Mapping[str, str]) -> dict[str, Host]:
    """{"algo-1": "127.0.0.1:21000"}: address and first port of hosts whose name does not resolve (the emulator's)."""
    text = environ.get(ADDRESSES_VARIABLE)
    if not text:
        return {}
    try:
        hosts = {}
        for name, endpoint in json.loads(text).items():
            address, _, port = endpoint.rpartition(":")
            hosts[name] = Host(name, address, int(port))
        return hosts
    except (ValueError, AttributeError):
        raise ConfigurationError(
            f'{ADDRESSES_VARIABLE}: expected JSON like {{"algo-1": "127.0.0.1:21000"}}, got {text!r}'
        ) from None


def _roles_variable(environ: Mapping[str, str]) -> dict[str, Role]:
    roles = {}
    for item in filter(None, environ.get(ROLES_VARIABLE, "").split(",")):
        name, separator, role = item.partition("=")
        if not separator:
            raise RoleError(f"{ROLES_VARIABLE}: expected GROUP=ROLE,GROUP=ROLE, got {item!r}")
        roles[name.strip()] = _role(role.strip(), name.strip())
    return roles


def _role(role: Role | str, group: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise RoleError(f"group {group!r}: expected the role data, training or ignored, got {role!r}") from None


def _roles(groups: list[str], asked: Mapping[str, Role], distribution: tuple[str, ...]) -> dict[str, Role]:
    for name in asked:
        if name not in groups:
            near = difflib.get_close_matches(name, groups, 1)
            raise RoleError(
                f"group {name!r} is not in this job (groups: {', '.join(groups)})"
                + (f"; did you mean {near[0]}?" if near else "")
            )
    roles = dict(asked)
    rest = [name for name in groups if name not in roles]
    if len(groups) == 1:
        roles.update(dict.fromkeys(rest, Role.TRAINING))
    elif distribution:
        roles.update({name: Role.TRAINING if name in distribution else Role.DATA for name in rest})
    else:
        roles.update({name: Role(_DEFAULT_ROLES[name]) for name in rest if name in _DEFAULT_ROLES})
    rest = [name for name in groups if name not in roles]
    if Role.TRAINING in roles.values():
        roles.update(dict.fromkeys(rest, Role.DATA))
    elif Role.DATA in roles.values() and len(rest) == 1:
        roles[rest[0]] = Role.TRAINING
    if Role.TRAINING not in roles.values():
        raise RoleError(
            f"can't tell which instance group trains (groups: {', '.join(groups)}; no distribution is configured): "
            f"name them data_group and dnn_group, or say it: hetero-tfdata launch --role {groups[0]}=data "
            f"(or {ROLES_VARIABLE}={groups[0]}=data)"
        )
    return roles

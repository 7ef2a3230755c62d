"""Which rank this process is: Open MPI's, Horovod's or TF_CONFIG's variables, as one value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from hetero_tfdata.errors import ConfigurationError

__all__ = ["Ranks"]

# Launchers and the variables in which they tell rank, size, rank on this host and size on this host.
# mpirun: Open MPI's documented environment. horovodrun --gloo: horovod/runner/gloo_run.py sets them.
_LAUNCHERS = {
    "mpirun": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "horovodrun": ("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE"),
}
# What all ranks of one run share and two runs don't.
_RUN_IDS = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "HOROVOD_GLOO_RENDEZVOUS_PORT")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among the training processes.

    Attributes:
        rank: 0 to size - 1; rank 0 is the leader.
        size: training processes in the job.
        local_rank: 0 to local_size - 1, on this host.
        local_size: training processes on this host.
        launcher: "mpirun", "horovodrun", "TF_CONFIG" or None (started by nobody).
        run_id: the same in all ranks of one run, different in the next; None where the launcher gives none.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    launcher: str | None = None
    run_id: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Ranks:
        """Reads the launcher's variables; one rank of one where there is no launcher.

        Raises:
            ConfigurationError: a variable is missing, no number or out of range, or TF_CONFIG is malformed.
        """
        for launcher, names in _LAUNCHERS.items():
            if names[0] in environ:
                rank, size, local_rank, local_size = (_number(environ, name, launcher) for name in names)
                if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
                    raise ConfigurationError(
                        f"{launcher}'s variables disagree: expected 0 <= rank < size on host and job, got "
                        + ", ".join(f"{name}={environ[name]}" for name in names)
                    )
                run_id = "-".join(environ[name] for name in _RUN_IDS if name in environ)
                return cls(rank, size, local_rank, local_size, launcher, run_id or None)
        if environ.get("TF_CONFIG"):
            return _from_tf_config(environ["TF_CONFIG"])
        return cls()


def _number(environ: Mapping[str, str], name: str, launcher: str) -> int:
    try:
        return int(environ[name])
    except KeyError:
        raise ConfigurationError(f"expected {name} beside {launcher}'s other variables, it is not set") from None
    except ValueError:
        raise ConfigurationError(f"expected a number in {name}, got {environ[name]!r}") from None


def _from_tf_config(text: str) -> Ranks:
    """Ranks as tf.distribute counts them: the chief, if there is one, before the workers."""
    expected = 'expected TF_CONFIG like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        cluster = config["cluster"]
        kind, index = config["task"]["type"], int(config["task"]["index"])
        chiefs, workers = len(cluster.get("chief", [])), len(cluster.get("worker", []))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{expected}, got {text[:200]!r} ({error})") from None
    if kind not in ("chief", "worker"):
        return Ranks(launcher="TF_CONFIG")
    rank = index if kind == "chief" else chiefs + index
    if not 0 <= rank < chiefs + workers:
        raise ConfigurationError(f"{expected} with an index below the number of hosts, got {text[:200]!r}")
    return Ranks(rank, chiefs + workers, launcher="TF_CONFIG")

"""What a rank is told beside SageMaker's variables: by Open MPI's mpirun, and by the toolkit's command line for it.

tests/toolkit/test_ranks.py holds the stand-in's ranks, which get these, against those of the real mpirun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

__all__ = ["toolkit_variables", "world_variables"]

# sagemaker_training.SM_EFA_NCCL_INSTANCES and SM_EFA_RDMA_INSTANCES (5.1.4): those whose ranks are told to use EFA.
_EFA = {
    "ml.g4dn.8xlarge",
    "ml.g4dn.12xlarge",
    "ml.g5.48xlarge",
    "ml.p3dn.24xlarge",
    "ml.p4d.24xlarge",
    "ml.p4de.24xlarge",
    "ml.p5.48xlarge",
    "ml.p5e.48xlarge",
    "ml.trn1.32xlarge",
    "ml.p6e-gb200.36xlarge",
}
_EFA_RDMA = _EFA - {"ml.g4dn.8xlarge", "ml.g4dn.12xlarge", "ml.g5.48xlarge", "ml.p3dn.24xlarge"}


def toolkit_variables(instance_type: str, network_interface: str) -> dict[str, str]:
    """What sagemaker_training.mpi puts on mpirun's command line by `-x NAME=VALUE`; SM_* go with `-x NAME`."""
    told = {"NCCL_MIN_NRINGS": "4", "NCCL_SOCKET_IFNAME": network_interface, "NCCL_DEBUG": "INFO"}
    if instance_type in _EFA:
        told |= {"FI_PROVIDER": "efa", "NCCL_PROTO": "simple"}
    if instance_type in _EFA_RDMA:
        told["FI_EFA_USE_DEVICE_RDMA"] = "1"
    return told


def world_variables(
    rank: int, size: int, local_rank: int, local_size: int, command: Sequence[str], folder: str
) -> dict[str, str]:
    """mpirun's own (orte/mca/schizo/ompi of Open MPI 4.1), without those by which its processes find each other.

    Those (OMPI_MCA_*, PMIX_*) must not be there: with them MPI_Init looks for mpirun's daemon.
    """
    values: Mapping[str, object] = {
        "COMM_WORLD_RANK": rank,
        "COMM_WORLD_SIZE": size,
        "COMM_WORLD_LOCAL_RANK": local_rank,
        "COMM_WORLD_LOCAL_SIZE": local_size,
        "COMM_WORLD_NODE_RANK": local_rank,  # differs where a job has several mpiruns
        "UNIVERSE_SIZE": size,
        "APP_CTX_NUM_PROCS": size,
        "NUM_APP_CTX": 1,
        "FIRST_RANKS": 0,
        "COMMAND": PurePath(command[0]).name,
        "ARGV": " ".join(["-m", "mpi4py", *command[1:]]),  # the toolkit starts ranks by mpi4py's runner
    }
    return {f"OMPI_{name}": str(value) for name, value in values.items()} | {"PWD": folder}

"""Who am I, where is everybody: read once from SageMaker's files and variables, handed on as a frozen value."""

from hetero_tfdata.cluster.topology import Cluster, Host, InstanceGroup, Role

__all__ = ["Cluster", "Host", "InstanceGroup", "Role"]

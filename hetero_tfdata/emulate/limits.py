"""What an emulated host may use: its instance type's CPUs and link, divided by the scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hetero_tfdata.cluster.instances import instance
from hetero_tfdata.errors import ConfigurationError

__all__ = ["MIN_CPUS", "Limits"]

# A control group's quota is at least 1 ms of each period, which is 20 ms here.
MIN_CPUS = 0.05
_GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Limits of one host; None: no limit.

    Attributes:
        cpus: cores of this machine that its processes may use together.
        link_gbps: Gbit/s of its network interface, in each direction.
        memory_bytes: of all its processes and files in memory; a process that goes beyond is killed.
    """

    cpus: float | None = None
    link_gbps: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def of(cls, instance_type: str, scale: float, memory_gib: float | None = None, link_scale: float | None = None) -> Limits:
        """The limits of an instance type at a scale (real vCPUs per emulated core); 0 limits neither CPUs nor link.

        The link is divided by the scale as well, or by `link_scale`: where a core here does the work of more or fewer vCPUs
        than the scale says, links keep step with the work only at a scale of their own.

        Raises:
            ConfigurationError: the scale can't be, or the type's CPUs or link are not known.
        """
        if not (scale >= 0 and math.isfinite(scale)):
            raise ConfigurationError(f"expected a scale of 0 (no limits) or more, got {scale:g}")
        if link_scale is not None and not (scale > 0 and link_scale > 0 and math.isfinite(link_scale)):
            raise ConfigurationError(f"expected a link scale of more than 0 beside a scale, got {link_scale:g} and {scale:g}")
        if memory_gib is not None and not (memory_gib > 0 and math.isfinite(memory_gib)):
            raise ConfigurationError(f"expected a memory limit of more than 0 GiB, got {memory_gib:g}")
        memory = None if memory_gib is None else int(memory_gib * _GIB)
        if scale == 0:
            return cls(memory_bytes=memory)
        facts = instance(instance_type)
        if facts is None or facts.vcpu is None or facts.baseline_gbps is None:
            raise ConfigurationError(
                f"scale {scale:g} needs the vCPUs and the link of {instance_type}, which are not known here "
                "(hetero_tfdata/cluster/instances.tsv); choose a type that is, or leave --scale out"
            )
        cpus = facts.vcpu / scale
        if cpus < MIN_CPUS:
            raise ConfigurationError(
                f"scale {scale:g} leaves {instance_type} ({facts.vcpu} vCPUs) {cpus:.3f} cores; "
                f"expected at least {MIN_CPUS:g}, a scale of at most {facts.vcpu / MIN_CPUS:g}"
            )
        return cls(cpus, facts.baseline_gbps / (link_scale or scale), memory)

    def __str__(self) -> str:
        """Such as "1 core, 0.35 Gbit/s"; empty without limits."""
        parts = []
        if self.cpus is not None:
            parts.append(f"{self.cpus:.3g} core{'' if self.cpus == 1 else 's'}")
        if self.link_gbps is not None:
            parts.append(f"{self.link_gbps:.3g} Gbit/s")
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes / _GIB:.3g} GiB")
        return ", ".join(parts)

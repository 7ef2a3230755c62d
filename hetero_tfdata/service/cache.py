"""What a host keeps of the work that is the same in every pass, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hetero_tfdata.errors import ConfigurationError

__all__ = ["PLACES", "Cache"]

PLACES = ("memory", "disk")


@dataclass(frozen=True)
class Cache:
    """Where a host keeps what comes before the first random operation, and how much of it.

    Kept are the results of the dataset's deterministic `map` steps, decoding as a rule, by the content of what they are made
    from. So a record is found again in any order, in any pass, also in one that begins anew at `distribute()`, by any worker of
    the host, and by a worker that was started again. Random operations are never kept, nor is anything that follows them.

    Each host keeps what its own workers have seen. A pass divides the records anew among the hosts, so with H hosts the second
    pass finds 1 / H of its records, and later ones more and more, as long as the budget allows.

    Attributes:
        where: "memory": files in /dev/shm, which are memory (in a container its size is a setting; Docker's own is 64 MB);
            "disk": files in the folder for temporary files (TMPDIR; /var/tmp where /tmp is memory). They go with the job.
        gib: GiB on each host, shared by its worker processes, for this dataset; never exceeded. What is not kept then is
            computed in each pass, as without a cache. None: 40 % of the memory, or 80 % of the disk, that is free when the
            host's workers start. (Shuffle buffers may take half of the memory before the preflight warns of them.) A host
            gives no more than 90 % of what was free then, whatever the number.
    """

    where: str = "memory"
    gib: float | None = None

    def __post_init__(self) -> None:
        if self.where not in PLACES:
            raise ConfigurationError(f"Cache.where: expected one of {', '.join(PLACES)}, got {self.where!r}")
        number = isinstance(self.gib, int | float) and not isinstance(self.gib, bool)
        if self.gib is not None and not (number and 0 < self.gib < 2**33):
            raise ConfigurationError(f"Cache.gib: expected GiB above 0, or None for a part of what is free, got {self.gib!r}")

    @classmethod
    def of(cls, cache: Any) -> Cache | None:
        """What `distribute(cache=...)` was given: None, a Cache, or its `where` alone.

        Raises:
            ConfigurationError: it is none of them.
        """
        if cache is None or isinstance(cache, Cache):
            return cache
        if isinstance(cache, str) and cache in PLACES:
            return cls(cache)
        raise ConfigurationError(f"cache: expected 'memory', 'disk', a Cache or None, got {cache!r}")

    @property
    def budget_bytes(self) -> int | None:
        """Bytes on each host; None: what the host finds."""
        return None if self.gib is None else int(self.gib * 2**30)

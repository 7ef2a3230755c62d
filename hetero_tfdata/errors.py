"""Every error that hetero_tfdata raises on purpose.

    HeteroTFDataError                  the root: `except HeteroTFDataError` catches them all
    +-- ConfigurationError             what was given can't be right: a file, a flag, an option, a missing package
    |   +-- ResourceConfigError        resourceconfig.json or the SM_* variables are malformed or incomplete
    |   +-- RoleError                  which instance group reads data and which one trains can't be told
    +-- ServiceError                   the tf.data service is not there, or went away
    |   +-- NotReadyError              a dispatcher or worker did not come up before the deadline
    |   +-- PortInUseError             a server found its port taken
    |   +-- ServerDiedError            a dispatcher or worker died more often than it may be restarted
    |   +-- StalledError               the stream stands still: a worker is lost, or waits for its own source
    +-- DatasetError                   the dataset can't run on other hosts
    +-- DataError                      a file of the dataset is missing, truncated or can't be decoded
    +-- JobError                       another host of the job failed, or was lost

Each message is one line: what was expected, what came, what to do. On a command line they end the program with exit code 2
(configuration, a taken port, a damaged file) or 1 (anything else) and no traceback.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "DataError",
    "DatasetError",
    "HeteroTFDataError",
    "JobError",
    "NotReadyError",
    "PortInUseError",
    "ResourceConfigError",
    "RoleError",
    "ServerDiedError",
    "ServiceError",
    "StalledError",
]


class HeteroTFDataError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1


class ConfigurationError(HeteroTFDataError):
    """A file, a flag or an option can't be right, or a package is missing."""

    exit_code = 2


class ResourceConfigError(ConfigurationError):
    """resourceconfig.json or the SM_* variables are malformed or incomplete."""


class RoleError(ConfigurationError):
    """Which instance group reads data and which one trains can't be told."""


class ServiceError(HeteroTFDataError):
    """The tf.data service is not there, or went away."""


class NotReadyError(ServiceError):
    """A dispatcher or worker did not come up before the deadline; the message names who is missing, at what address."""


class PortInUseError(ServiceError):
    """A server found its port taken by another program."""

    exit_code = 2


class ServerDiedError(ServiceError):
    """A dispatcher or worker died more often than it may be restarted; the message holds its last log lines."""


class StalledError(ServiceError):
    """No element came before the deadline; the message tells no workers, unreachable, and starved source apart."""


class DatasetError(HeteroTFDataError):
    """The dataset can't run on other hosts."""


class DataError(HeteroTFDataError):
    """A file of the dataset is missing, truncated or can't be decoded; the message names file and offset."""

    exit_code = 2


class JobError(HeteroTFDataError):
    """Another host of the job failed, or was lost."""

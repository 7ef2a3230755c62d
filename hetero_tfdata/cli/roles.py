"""--role, which several subcommands take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from hetero_tfdata.errors import ConfigurationError


def add_role(parser: argparse.ArgumentParser) -> None:
    """The option."""
    parser.add_argument(
        "--role",
        action="append",
        default=[],
        metavar="GROUP=ROLE",
        help="the role of an instance group: data, training or ignored (default: after the distribution, then after the names "
        "data_group and dnn_group)",
    )


def roles_of(items: Sequence[str]) -> dict[str, str]:
    """Its values: group -> role.

    Raises:
        ConfigurationError: one is malformed.
    """
    roles = {}
    for item in items:
        name, separator, role = item.partition("=")
        if not separator:
            raise ConfigurationError(f"--role: expected GROUP=ROLE such as cpu_hosts=data, got {item!r}")
        roles[name] = role
    return roles

"""The command line, `hetero-tfdata SUBCOMMAND`: one module per subcommand."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from hetero_tfdata import __version__
from hetero_tfdata.errors import HeteroTFDataError

__all__ = ["main"]

_SUBCOMMANDS = ("launch", "emulate", "check", "status", "plan", "measure", "diagnose", "submit")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and returns its exit code; errors raised on purpose become one line on standard error."""
    parser = _Parser(
        prog="hetero-tfdata", description="Run tf.data on CPU instances beside the GPUs of a SageMaker training job."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    argv = sys.argv[1:] if argv is None else list(argv)
    modules = {}
    # only what is asked for: `launch` on a host must not need what `emulate` imports
    for name in [name for name in _SUBCOMMANDS if name in argv[:1]] or _SUBCOMMANDS:
        module = importlib.import_module(f"hetero_tfdata.cli.{name}")
        modules[name] = module
        module.add_arguments(subparsers.add_parser(name, help=module.SUMMARY, description=module.__doc__))
    arguments = parser.parse_args(argv)
    try:
        return modules[arguments.subcommand].run(arguments)
    except HeteroTFDataError as error:
        print(f"hetero-tfdata: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130

"""Says what a job that ran waited for: its CPUs, its GPUs, its links. Reads CloudWatch, a log, or an emulated run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from hetero_tfdata.errors import ConfigurationError

if TYPE_CHECKING:
    from hetero_tfdata.plan.observed import Observed

SUMMARY = "say what a job that ran waited for: CPUs, GPUs, links"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which job, where from."""
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--training-job",
        metavar="NAME",
        help="a SageMaker training job that has ended: from CloudWatch, its description, its log",
    )
    which.add_argument("--log", metavar="FILE", help="a job's log with the step timer's lines")
    which.add_argument("--summary", metavar="FILE", help="summary.json of an emulated run, or its folder")
    which.add_argument(
        "--profiler-report",
        metavar="FILE",
        help="OverallSystemUsage.json of SageMaker Debugger's profiler report, or its folder; with --training-job it is found "
        "by itself",
    )
    add("--region", metavar="NAME", help="of the training job (default: as for AWS's own tools)")
    add("--json", action="store_true", help="as JSON")
    add("--report", metavar="FILE.html", help="write it as one page too, with the course of every host")


def run(arguments: argparse.Namespace) -> int:
    """Prints the diagnosis; 0."""
    from hetero_tfdata.plan.diagnosis import diagnose
    from hetero_tfdata.plan.files import write
    from hetero_tfdata.plan.findings import page, text

    if arguments.region and not arguments.training_job:
        raise ConfigurationError("--region: expected only with --training-job")
    observed = _observed(arguments)
    diagnosis = diagnose(observed)
    if arguments.report:
        write(Path(arguments.report), page(observed, diagnosis), "--report")
    print(json.dumps(diagnosis.as_json(observed), indent=1) if arguments.json else text(observed, diagnosis))
    return 0


def _observed(arguments: argparse.Namespace) -> Observed:
    if arguments.training_job:
        from hetero_tfdata.plan.cloudwatch import connect, observe

        return observe(arguments.training_job, connect(arguments.region))
    if arguments.profiler_report:
        from hetero_tfdata.plan import profiler_report

        return profiler_report.observe(Path(arguments.profiler_report))
    from hetero_tfdata.plan.recorded import of_log, of_summary

    return of_log(Path(arguments.log)) if arguments.log else of_summary(Path(arguments.summary))

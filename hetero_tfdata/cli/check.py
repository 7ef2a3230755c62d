"""Says what a dataset would do on several hosts, from its own graph: nothing of it runs, and no service is needed."""

from __future__ import annotations

import argparse
import json
import textwrap

from hetero_tfdata.cli.functions import dataset_of
from hetero_tfdata.errors import ConfigurationError, DatasetError
from hetero_tfdata.service import preflight

SUMMARY = "say what a dataset would do on several hosts"

_WIDTH = 118


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What makes the dataset, then where it would run."""
    add = parser.add_argument
    add("function", metavar="MODULE:FUNCTION", help="returns the dataset; called without arguments, looked up from here")
    add("--workers", type=int, default=2, metavar="N", help="worker processes in the whole job (default: 2)")
    add("--workers-per-host", type=int, default=1, metavar="N", help="those that share one host's memory (default: 1)")
    add("--processing-mode", choices=("dynamic", "off"), default="dynamic", help="as in distribute() (default: dynamic)")
    add("--preload", action="append", default=[], metavar="MODULE", help="as in launch: the workers load its operations")
    add("--dataset-fn", action="store_true", help="as with distribute(dataset_fn=FUNCTION): workers call it for its functions")
    add("--strict", action="store_true", help="refuse what is otherwise a warning, as distribute(strict=True) does")
    add("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Prints the findings; 0 if the dataset would run, 1 if it would be refused."""
    for option, value in (("--workers", arguments.workers), ("--workers-per-host", arguments.workers_per_host)):
        if value < 1:
            raise ConfigurationError(f"{option}: expected at least 1, got {value}")
    dataset = dataset_of(arguments.function)
    job = preflight.Job(
        processing_mode=arguments.processing_mode,
        workers=arguments.workers,
        workers_per_host=arguments.workers_per_host,
        memory_bytes=preflight.host_memory_bytes(),
        preloaded=preflight.known_preloads(*arguments.preload),
        takes_demands=True,
        dataset_fn=arguments.function if arguments.dataset_fn else None,
    )
    needs = preflight.Needs()
    try:
        findings, needs = preflight.examine(dataset, job)
    except DatasetError as error:
        findings = [preflight.Finding("unwritable", arguments.function, str(error), "see that message", refused=True)]
    refused = any(finding.refused or arguments.strict for finding in findings)
    if arguments.json:
        report = {
            "function": arguments.function,
            "processing_mode": arguments.processing_mode,
            "workers": arguments.workers,
            "refused": refused,
            "findings": [finding.as_dict() for finding in findings],
            "libraries": needs.libraries,
            "functions": [one.name for one in needs.functions.functions] if needs.functions else [],
        }
        print(json.dumps(report, indent=2))
    else:
        print("\n".join([*_notes(needs), _table(arguments.function, findings, arguments.strict)]))
    return int(refused)


def _notes(needs: preflight.Needs) -> list[str]:
    lines = []
    for module, operations in needs.libraries.items():
        lines.append(f"note     custom-operations  {', '.join(operations)}")
        lines += _paragraph(
            f"every host that serves will import {module}: install it there, or put it beside the training script"
        )
    for function in needs.functions.functions if needs.functions else ():
        lines.append(f"note     python-function  {function.name} of {function.module}")
        lines += _paragraph("every worker will import it: keep the module beside the training script, the same on every host")
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9, break_on_hyphens=False)


def _table(function: str, findings: list[preflight.Finding], strict: bool) -> str:
    if not findings:
        return f"OK: {function} runs on several workers as it does on one"
    refusals = sum(finding.refused or strict for finding in findings)
    lines = []
    for finding in findings:
        verdict = "refused" if finding.refused or strict else "warning"
        lines.append(f"{verdict}  {finding.code}  {finding.operation}")
        for text in (finding.meaning, f"instead: {finding.way_out}"):
            lines += _paragraph(text)
    if refusals:
        lines.append(f"distribute({'strict=True' if strict else ''}) refuses it")
    else:
        lines.append("distribute() warns and runs it; distribute(strict=True) refuses it")
    return "\n".join(lines)

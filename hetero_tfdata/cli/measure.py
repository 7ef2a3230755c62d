"""Measures an input graph: CPU time a sample and of each stage, bytes on the wire, memory; for `plan --profile`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hetero_tfdata.cli.functions import dataset_of, function_of, reason
from hetero_tfdata.errors import ConfigurationError

SUMMARY = "measure what an input graph costs, stage by stage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to measure, for how long, where to write it."""
    add = parser.add_argument
    add("function", metavar="MODULE:FUNCTION", help="returns the dataset; called without arguments, looked up from here")
    add(
        "--step",
        metavar="MODULE:FUNCTION",
        help="a training step: called with one batch, again and again; measures the accelerator's own time",
    )
    add("--seconds", type=float, default=8.0, metavar="S", help="for the whole graph, a quarter for each stage (default: 8)")
    add(
        "--samples-per-element",
        type=int,
        metavar="N",
        help="what an element counts, where a function of the graph makes batches (default: rows that batch() made, else 1)",
    )
    add("--output", metavar="FILE", default="profile.json", help="the profile (default: %(default)s)")
    add("--fingerprint", action="store_true", help="print which graph it is, as the profile names it, and measure nothing")
    add("--json", action="store_true", help="print the profile as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measures, writes the profile, prints it; 0."""
    if not 1 <= arguments.seconds <= 3600:
        raise ConfigurationError(f"--seconds: expected 1 to 3600, got {arguments.seconds:g}")
    if arguments.samples_per_element is not None and arguments.samples_per_element < 1:
        raise ConfigurationError(f"--samples-per-element: expected at least 1, got {arguments.samples_per_element}")
    output = Path(arguments.output)
    if not output.parent.is_dir():
        raise ConfigurationError(f"--output {output}: there is no folder {output.parent}")
    dataset = dataset_of(arguments.function)
    if arguments.fingerprint:
        from hetero_tfdata.plan.measure import fingerprint

        print(fingerprint(dataset))
        return 0
    step = function_of(arguments.step) if arguments.step else None
    from hetero_tfdata.plan.measure import measure, measure_step

    profile = measure(
        dataset,
        arguments.function,
        seconds=arguments.seconds,
        samples_per_element=arguments.samples_per_element,
        log=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if step is not None:
        batch = next(iter(dataset))
        try:
            step_ms = measure_step(step, batch, seconds=arguments.seconds)
        except Exception as error:
            raise ConfigurationError(f"{arguments.step}: calling it with a batch failed: {reason(error)}") from error
        from hetero_tfdata.service.rows import rows_of

        rows = arguments.samples_per_element or int(rows_of(batch))
        profile = replace(profile, accelerator_ms_per_step=step_ms, batch_size=rows)
    profile.write(output)
    print(json.dumps(asdict(profile), indent=1) if arguments.json else render(profile, output))
    return 0


def render(profile: Any, output: Path) -> str:
    """The stages, the sums, and what to type next."""
    width = max(len(stage.stage) for stage in profile.stages)
    lines = [
        f"{stage.stage:<{width}}  {stage.cpu_ms_per_sample * 1e3:>9,.1f} us  {stage.share:>4.0%}  "
        + "#" * round(40 * stage.share)
        for stage in profile.stages
    ]
    most = max(profile.stages, key=lambda stage: stage.share)
    machine = profile.machine
    lines += [
        "",
        f"{profile.cpu_ms_per_sample:.4g} vCPU-ms a sample (CPU time, and what the graph leaves idle at full speed), "
        f"{profile.wire_bytes_per_sample:,.0f} bytes on the wire, {profile.memory_mib:,.0f} MiB; "
        f"{profile.samples_per_s:,.0f} samples/s with {profile.cpus_busy:.0%} of "
        f"{machine['cpus']} CPUs ({machine['cpu']})",
        f"Most of it is {most.stage}: {most.share:.0%}",
    ]
    if profile.cpus_busy < 0.8:
        lines.append(
            "Not all CPUs were busy: the graph waits for itself or for its files (num_parallel_calls=tf.data.AUTOTUNE?); on an "
            "idle hyper-thread's neighbour a sample may look cheaper than it is"
        )
    step = ""
    if profile.accelerator_ms_per_step is not None:
        lines.append(
            f"A training step of {profile.batch_size} samples that are there already: {profile.accelerator_ms_per_step:.4g} ms"
        )
    else:
        step = " --accelerator-ms-per-step A"
    lines += [
        "",
        f"Taken for the training instance's own vCPU-ms unless --cpu-factor says otherwise. Written to {output}; next:",
        f"hetero-tfdata plan --profile {output} --train-instance TYPE --search --global-batch-size B{step}",
    ]
    return "\n".join(lines)

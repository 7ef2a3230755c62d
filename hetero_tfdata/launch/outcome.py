"""What a job came to, and the files in which a host leaves it."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from typing import Any

from hetero_tfdata.cluster import sagemaker
from hetero_tfdata.cluster.topology import Cluster
from hetero_tfdata.launch.health import HealthServer, Phase, RankReport
from hetero_tfdata.launch.job import Job
from hetero_tfdata.service.supervisor import Supervisor
from hetero_tfdata.service.tally import Tally

__all__ = ["Outcome", "publish", "sentence", "write_failure", "write_losses", "write_served"]


@dataclass(frozen=True)
class Outcome:
    """How the job ended, with the first cause of a failure."""

    succeeded: bool
    reason: str | None = None


def publish(job: Job, health: HealthServer, outcome: Outcome) -> None:
    """Tells the followers, the log and, where it failed, SageMaker's failure file."""
    if not outcome.succeeded:
        write_failure(outcome.reason or "the job failed")
    health.publish(Phase.SUCCEEDED if outcome.succeeded else Phase.FAILED, outcome.reason)
    job.log("training succeeded" if outcome.succeeded else f"the job failed: {outcome.reason}")


def sentence(report: RankReport) -> str:
    """A rank's failure in one sentence."""
    return f"rank {report.rank} on {report.host} failed: {report.reason or f'exit code {report.exit_code}'}"


def write_failure(reason: str) -> None:
    """Writes SageMaker's failure file; see `sagemaker.write_failure`."""
    sagemaker.write_failure(os.environ, reason)


def write_served(cluster: Cluster, servers: Supervisor) -> None:
    """Writes what this host served among the files that SageMaker uploads when the job ends:
    output/data/hetero_tfdata/HOST.json with host, group, role, batches_served, workers, and cache: what
    distribute(cache=...) looked up and kept here, or null."""
    report = {
        "host": cluster.current_host,
        "group": cluster.group.name,
        "role": cluster.role.value,
        "batches_served": servers.batches_served,
        "workers": servers.report(),
        "cache": servers.cache_report(),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    _write(f"{cluster.current_host}.json", report)


def write_losses(tally: Tally) -> None:
    """Writes what was lost with workers that died, if there were any: output/data/hetero_tfdata/losses.json with lost (stream,
    pass, rows, of) and restarted (worker: how often)."""
    report = tally.report()
    if any(report.values()):
        _write("losses.json", report)


def _write(name: str, report: dict[str, Any]) -> None:
    folder = sagemaker.output_data_dir(os.environ)
    if not folder.parent.is_dir():
        return
    with contextlib.suppress(OSError):
        path = folder / "hetero_tfdata" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(report, indent=1))
        temporary.replace(path)

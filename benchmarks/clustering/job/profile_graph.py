"""Measures a graph where it runs, on an emulated training host: `profile_graph.py --graph NAME --batch N` writes profile.json
to output/data."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from graphs import GRAPHS

from hetero_tfdata.plan.measure import measure


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--graph", choices=GRAPHS, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=40.0)
    options = parser.parse_args()
    folder = Path(os.environ["SM_OUTPUT_DATA_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    measure(GRAPHS[options.graph](options.batch), options.graph, seconds=options.seconds, stage_seconds=2.0).write(
        folder / "profile.json"
    )


if __name__ == "__main__":
    main()

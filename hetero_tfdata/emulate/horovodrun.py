"""`python -m hetero_tfdata.emulate.horovodrun ...` is `horovodrun ...` with a shorter start and a shorter failure."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """horovodrun's own code, without the process in which it imports TensorFlow to see whether Horovod has Gloo.

    That costs 4 CPU-seconds (17 s of a busy 2-core machine, Horovod 0.28.1, 2026-11-23) in every run. The ranks find
    out anyway. Nothing of Horovod is imported at the top of this file: the process that horovodrun starts for each rank
    imports it again.
    """
    from horovod.runner import launch

    launch.gloo_built = lambda verbose=False: True
    try:
        launch.run_commandline()
    except RuntimeError as error:  # a rank failed: horovodrun says so by a traceback of its own
        print("horovodrun: " + " ".join(str(error).split()), file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

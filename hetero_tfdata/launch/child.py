"""`python -m hetero_tfdata.launch.child SCRIPT [ARGS]`: becomes `python SCRIPT [ARGS]`, bound to its parent's life.

The kernel's parent-death signal survives exec, so the training script needs no code of ours for it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks the kernel to kill this process when its parent dies, then executes the script."""
    parent = int(os.environ.pop("HETERO_TFDATA_PARENT", "0"))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        sys.exit(1)  # it died before the line above
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    main()

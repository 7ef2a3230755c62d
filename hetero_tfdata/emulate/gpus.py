"""nvidia-smi on an emulated host: sagemaker-training counts the lines of `nvidia-smi --list-gpus` for SM_NUM_GPUS."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_folder"]


def make_folder(folder: Path, gpus: int) -> Path:
    """Makes a folder, for PATH, with an nvidia-smi that lists so many GPUs and can do nothing else, for there are none."""
    folder.mkdir(parents=True)
    lines = "".join(f"echo 'GPU {number}: emulated'\n" for number in range(gpus))
    script = f"#!/bin/sh\nif [ \"$*\" != --list-gpus ]; then echo 'emulated: there is no GPU' >&2; exit 9; fi\n{lines}"
    program = folder / "nvidia-smi"
    program.write_text(script)
    program.chmod(0o755)
    return folder

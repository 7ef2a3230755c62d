"""A contender that runs on TensorFlow: `python -m augmentation.child MODULE FUNCTION ARGUMENTS`, the arguments as JSON.

FUNCTION of MODULE, beside this file, makes an endless dataset of (images, labels). `folder` among the arguments is a path.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from augmentation.turns import serve, take_pipe


def main() -> None:
    """Takes turns until the pipe closes."""
    replies = take_pipe()
    module, function, text = sys.argv[1:4]
    arguments = json.loads(text)
    if "folder" in arguments:
        arguments["folder"] = Path(arguments["folder"])
    dataset = getattr(importlib.import_module(f"augmentation.{module}"), function)(**arguments)
    batches = iter(dataset)

    def pull() -> int:
        return int(next(batches)[1].shape[0])

    serve(replies, pull, dtype=dataset.element_spec[0].dtype.name)


if __name__ == "__main__":
    main()

"""Whether any thread of this process waits inside TensorFlow.

An iterator that asks for an element is not always awaited: a buffer fills itself for a script that is busy elsewhere, or done
with it. Who needs an element stands in a call of TensorFlow (`next`, `model.fit`) and does not come back.
"""

from __future__ import annotations

import os
import sys
import time
from types import FrameType

import tensorflow as tf

__all__ = ["Blocked"]

_TENSORFLOW = os.path.dirname(tf.__file__) + os.sep


class Blocked:
    """The calls of TensorFlow in which threads stand. For one thread, which looks about once a second."""

    def __init__(self) -> None:
        # the frames themselves: of one that was gone another could have the address
        self._stands: dict[int, tuple[FrameType, int, float]] = {}

    def look(self) -> float:
        """For how many seconds a thread has stood in one call, as far as earlier looks saw it there; 0 if none does."""
        now = time.monotonic()
        stands = {}
        for thread, frame in sys._current_frames().items():
            if frame.f_code.co_filename.startswith(_TENSORFLOW):
                known, place, since = self._stands.get(thread, (None, -1, now))
                stands[thread] = (frame, frame.f_lasti, since if known is frame and place == frame.f_lasti else now)
        self._stands = stands
        return max((now - since for _, _, since in stands.values()), default=0.0)

    def forget(self) -> None:
        """Lets go of what was seen."""
        self._stands = {}

"""What a dead process said last, as one line."""

from __future__ import annotations

__all__ = ["last_words"]

_TRACEBACK = "Traceback (most recent call last):"


def last_words(output: str) -> str | None:
    """The exception that ended a Python program, else the last line; None if it said nothing.

    The exception's line is the first one after the last traceback's header that isn't indented; what is printed later
    (notices of threads, of mpirun) is not the reason.
    """
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    for start in range(len(lines) - 1, -1, -1):
        if lines[start].strip() == _TRACEBACK:
            for line in lines[start + 1 :]:
                if not line.startswith(" "):
                    return line[:500]
            break
    return lines[-1].strip()[:500] if lines else None

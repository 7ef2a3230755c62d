"""Files that are there whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from hetero_tfdata.errors import ConfigurationError

__all__ = ["write"]


def write(path: Path, text: str, what: str) -> None:
    """Replaces the file in one step.

    Raises:
        ConfigurationError: it can't be written; `what` names it.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: can't be written: {error.strerror}") from None

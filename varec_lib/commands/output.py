"""What commands print and write: JSON alone on stdout, files that can be written."""

import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path

from varec_lib.errors import ConfigError


def notes_aside(json: bool) -> AbstractContextManager:
    """With --json, notes go to stderr so that stdout holds nothing but JSON."""
    return redirect_stdout(sys.stderr) if json else nullcontext()


def made_possible(file: Path | None) -> None:
    """Makes the folder of a file that will be written after hours of work, and sees whether it can be.

    Raises `ConfigError` that names it.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        there = file.exists()
        with file.open("a"):
            pass
        if not there:  # a command that then fails shall leave no empty table
            file.unlink()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror}).") from error

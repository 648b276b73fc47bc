"""Files that are either whole or not there: everything is written beside its place and renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from locret.errors import LocretError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it into place.

    Raises:
        LocretError: the folder cannot be written or the disk is full; what was at `path` is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would hide the file from everybody else
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors wraps what the operating system says
        reason = getattr(error, "strerror", None) or str(error)
        raise LocretError(f"could not write {path}: {reason}: free some space or choose another folder") from error
    finally:
        if temporary is not None:  # renamed away already, unless something went wrong
            temporary.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all (see `write_whole`)."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

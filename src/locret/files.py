"""Files that are either whole or not there: everything is written beside its place and renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from locret.errors import LocretError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it into place.

    Raises:
        LocretError: the folder cannot be written or the disk is full; what was at `path` is untouched.
    """
    write_together({path: write})


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all (see `write_whole`)."""
    write_whole(path, text_writer(text))


def text_writer(text: str) -> Callable[[Path], object]:
    """What `write_whole` and `write_together` call to fill a file with `text`."""
    return lambda path: path.write_text(text, encoding="utf-8")


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files that belong together: none is renamed into its place before all of them are complete.

    Args:
        files: path -> what fills a temporary file beside it; they are renamed in this order.

    Raises:
        LocretError: as `write_whole`; no path has changed, and no folder was made.
    """
    temporaries: dict[Path, Path] = {}
    made: list[Path] = []  # folders, innermost first
    path, written = Path(), False
    try:
        for path, write in files.items():
            made = [folder for folder in path.parents if not folder.exists()] + made
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = _temporary_beside(path)
            write(temporaries[path])
            with temporaries[path].open("rb+") as file:
                os.fsync(file.fileno())
            temporaries[path].chmod(0o644)  # mkstemp's 0600 would hide the file from everybody else
        for path, temporary in temporaries.items():
            temporary.replace(path)
        written = True
    except (OSError, SafetensorError) as error:  # safetensors wraps what the operating system says
        reason = getattr(error, "strerror", None) or str(error)
        raise LocretError(f"could not write {path}: {reason}: free some space or choose another folder") from error
    finally:
        for temporary in temporaries.values():  # renamed away already, unless something went wrong
            temporary.unlink(missing_ok=True)
        for folder in [] if written else made:
            with suppress(OSError):  # somebody else has put something into it
                folder.rmdir()


def check_writable(path: Path) -> None:
    """Refuse a path to which no file can be written, before any work is done for it.

    Raises:
        LocretError: a folder is there, or nothing can be put where it would be; a full disk is not foreseen.
    """
    if path.is_dir():
        raise LocretError(f"{path} is a folder: give the name of a file that is to be written")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise LocretError(f"{path} cannot be written, as {nearest} is a file: choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise LocretError(f"{path} cannot be written, as nothing may be put into {nearest}: choose another folder")


def _temporary_beside(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    return Path(name)

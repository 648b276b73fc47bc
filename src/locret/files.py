"""Files that are either whole or not there: everything is written beside its place and renamed into it.

A symbolic link stays one: what it points to is written. Folders, devices and pipes are refused, as a rename would
replace them. What a killed process has left beside a place goes when something is written there next.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from locret.errors import LocretError
from locret.folders import make_folder, remove_empty
from locret.locks import is_there, take

PREFIX = ".locret-"  # of files that are being written


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it into place.

    Raises:
        LocretError: the folder cannot be written, the disk is full, or something other than a file is at `path`; what
            was there is untouched.
    """
    write_together({path: write})


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all (see `write_whole`)."""
    write_whole(path, text_writer(text))


def text_writer(text: str) -> Callable[[Path], object]:
    """What `write_whole` and `write_together` call to fill a file with `text`."""
    return lambda path: path.write_bytes(as_bytes(text))


def as_bytes(text: str) -> bytes:
    r"""A text as UTF-8; what is no character (a byte of a file's name that is not UTF-8) as JSON escapes it: \udce9."""
    return text.encode("utf-8", errors="backslashreplace")


def write_together(files: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files that belong together: none is renamed into its place before all of them are complete.

    A kill between two renames leaves new files beside old ones: what reads them must be able to tell.

    Args:
        files: path -> what fills a temporary file beside it; they are renamed in this order.

    Raises:
        LocretError: as `write_whole`; no path has changed, and no folder was made.
    """
    temporaries: dict[Path, IO[bytes]] = {}  # place -> the open file, locked
    made: list[Path] = []  # folders, innermost first
    path, written = Path(), False
    try:
        for path, write in files.items():
            place = place_of(path)
            made = make_folder(place.parent) + made
            if place.parent not in {other.parent for other in temporaries}:
                _sweep(place.parent)
            temporaries[place] = _temporary_beside(place)
            temporary = Path(temporaries[place].name)
            write(temporary)
            temporaries[place] = _still_locked(temporary, temporaries[place])
            with temporary.open("rb+") as filled:
                os.fsync(filled.fileno())
        for place, file in temporaries.items():
            if os.name == "nt":  # which renames no open file
                file.close()
            Path(file.name).replace(place)
        written = True
    except (OSError, SafetensorError) as error:  # safetensors wraps what the operating system says
        raise LocretError(_refusal(path, error)) from error
    finally:
        for file in temporaries.values():
            Path(file.name).unlink(missing_ok=True)  # renamed away already, unless something went wrong
            file.close()
        if not written:
            remove_empty(made)


def append(path: Path, text: str, end: int | None = None, sync: bool = True) -> None:
    """Add text to a file, all of it or nothing; the file is made with its folder if need be.

    Args:
        path: the file.
        text: what to add.
        end: bytes of the file that stay; None for all.
        sync: whether the text is on the disk when this returns, so that it survives the machine, too.

    Raises:
        LocretError: the file cannot be written or the disk is full; what was there is untouched.
    """
    try:
        place = place_of(path)
        make_folder(place.parent)
        with place.open("ab", buffering=0) as file:
            before = file.tell() if end is None else end
            file.truncate(before)
            try:
                rest = memoryview(as_bytes(text))
                while rest:
                    rest = rest[file.write(rest) :]
                if sync:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(before)
                raise
    except OSError as error:
        raise LocretError(_refusal(path, error)) from error


def place_of(path: Path) -> Path:
    """Where a file is really written: at the end of symbolic links.

    Raises:
        LocretError: a folder, a device, a pipe or a socket is there.
        OSError: it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # also a link to nothing
        return Path(os.path.realpath(path))
    if stat.S_ISDIR(mode):
        raise LocretError(f"{path} is a folder: give the name of a file that is to be written")
    if not stat.S_ISREG(mode):
        raise LocretError(
            f"{path} is a device, a pipe or a socket, where nothing can be written whole or not at all: "
            "give the name of a file"
        )
    return Path(os.path.realpath(path))


def check_writable(path: Path) -> None:
    """Refuse a path to which no file can be written, before any work is done for it.

    Raises:
        LocretError: see `write_whole`; that the disk will be full is not known.
    """
    try:
        place = place_of(path)
        nearest = next(folder for folder in place.parents if folder.exists())
    except OSError as error:
        raise LocretError(_refusal(path, error)) from error
    if not nearest.is_dir():
        raise LocretError(f"{path} cannot be written, as {nearest} is a file: choose another folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise LocretError(f"{path} cannot be written, as nothing may be put into {nearest}: choose another folder")


def _temporary_beside(place: Path) -> IO[bytes]:
    """A new file, open and locked; with the rights of the one whose place it will take."""
    while True:
        path = place.parent / f"{PREFIX}{secrets.token_hex(8)}"
        file = path.open("x+b")
        take(file, wait=True)
        if is_there(path, file):
            if place.exists():
                path.chmod(stat.S_IMODE(place.stat().st_mode))
            return file
        file.close()  # taken for one that was left, before it was locked: once more


def _still_locked(path: Path, file: IO[bytes]) -> IO[bytes]:
    """The file at `path`, locked and with the rights of `file`, which a writer (safetensors) may replace by it."""
    if is_there(path, file):
        return file
    with file:
        path.chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
    again = path.open("r+b")
    take(again, wait=True)
    return again


def _sweep(folder: Path) -> None:
    """Remove what killed processes have left; the files of living ones are locked."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError), path.open("r+b") as file:
            if take(file):
                path.unlink()


def _refusal(path: Path, error: OSError | SafetensorError) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"could not write {path}: {reason}: free some space or choose another folder (what was there is untouched)"

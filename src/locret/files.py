"""Files that are either whole or not there: each is filled in a folder beside its place, and renamed into it.

A symbolic link stays one: what it points to is written. Folders, devices and pipes are refused, as a rename would
replace them. What a killed process has left beside a place goes when something is written there next.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from safetensors import SafetensorError

from locret.errors import LocretError
from locret.folders import make_folder, own_folder, remove_abandoned, remove_empty

PREFIX = ".locret-"  # of folders in which files are filled


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of the same name in a folder next to `path`, then rename it into place.

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
        files: path -> what fills a file beside it; they are renamed in this order.

    Raises:
        LocretError: as `write_whole`; no path has changed, and no folder was made.
    """
    temporaries: dict[Path, Path] = {}  # where a file will be -> where it is filled, in a folder of its own
    own: list[tuple[Path, IO[bytes]]] = []  # these folders, and their locks
    made: list[Path] = []  # folders, innermost first
    path, written = Path(), False
    try:
        for path, write in files.items():
            place = place_of(path)
            made = make_folder(place.parent) + made
            remove_abandoned(place.parent, PREFIX)
            own.append(own_folder(place.parent, PREFIX))
            temporaries[place] = temporary = own[-1][0] / place.name
            temporary.touch()  # with the rights of new files; safetensors gives its own to none but the owner
            rights = stat.S_IMODE((place if place.exists() else temporary).stat().st_mode)
            write(temporary)
            temporary.chmod(rights)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        for place, temporary in temporaries.items():
            temporary.replace(place)
        written = True
    except (OSError, SafetensorError) as error:  # safetensors wraps what the operating system says
        raise LocretError(_refusal(path, error)) from error
    finally:
        for folder, lock in own:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)
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
    except (FileNotFoundError, NotADirectoryError):  # also a link to nothing; `make_folder` tells of a file in the way
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


def _refusal(path: Path, error: OSError | SafetensorError) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"could not write {path}: {reason}: free some space or choose another folder (what was there is untouched)"

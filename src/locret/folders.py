"""Folders: made with their parents, taken back if nothing came into them, written by one process at a time.

Those that a process has for itself hold a lock, which ends with the process: the next one removes them.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from locret.errors import LocretError
from locret.locks import is_there, take

LOCK = ".lock"


def make_folder(path: Path) -> list[Path]:
    """Make a folder with its parents.

    Returns:
        Those that were not there, innermost first.

    Raises:
        LocretError: something else is in the way, or it may not be made there.
    """
    if path.exists() and not path.is_dir():
        raise LocretError(f"{path} is a file: give a folder, or another name")
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remove_empty(missing)
        raise LocretError(f"cannot make the folder {path}: {error.strerror or error}: choose another one") from error
    return missing


def remove_empty(folders: Sequence[Path]) -> None:
    """Take back folders that `make_folder` has made, unless something has come into them."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a folder, which is made if need be, while the context lasts.

    The lock ends with the process, also if that is killed. Where the file system has no locks there is none.

    Raises:
        LocretError: another process is writing there, or the folder cannot be made.
    """
    made = make_folder(folder)
    try:
        path = folder / LOCK
        file = _locked(folder, path)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file
                path.unlink()
            file.close()
    finally:
        remove_empty(made)


def _locked(folder: Path, path: Path) -> IO[bytes]:
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise LocretError(f"cannot write into {folder}: {error.strerror}: choose another folder") from error
        if take(file) is False:
            file.close()
            raise LocretError(
                f"another process is writing into {folder}: wait until it has ended, end it, or choose another folder"
            )
        if is_there(path, file):
            return file
        file.close()  # whoever had it has removed it between the two lines above: once more


def own_folder(parent: Path, prefix: str) -> tuple[Path, IO[bytes]]:
    """A new folder for this process alone, and the lock in it, which is held until it is closed.

    Raises:
        OSError: none can be made in `parent`.
    """
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # taken for an abandoned one, before it was locked: once more
            lock = (folder / LOCK).open("w+b")
            if take(lock, wait=True) is not False and is_there(folder / LOCK, lock):
                return folder, lock
            lock.close()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove folders of `own_folder` whose processes are dead; those of other users are theirs to remove."""
    for folder in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # somebody else was faster, or may alone
            if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
                continue
            try:
                with (folder / LOCK).open("r+b") as lock:
                    if take(lock):
                        shutil.rmtree(folder, ignore_errors=True)
            except FileNotFoundError:
                folder.rmdir()  # killed before it had made its lock; not empty if that has happened by now

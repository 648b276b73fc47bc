"""Locks of open files: they end when the file is closed, and so with the process, however that ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import IO

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # what file systems without them say


def take(file: IO[bytes], wait: bool = False) -> bool | None:
    """Lock an open file until it is closed.

    Args:
        file: open for writing.
        wait: until whoever has it lets go.

    Returns:
        False if another process has it, None where the file system has no locks.

    Raises:
        OSError: it cannot be locked for another reason.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 30)  # nobody else may read or write a locked byte there: one that nobody has
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def is_there(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` still names this open file: who removes a file does so while it has the lock."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))

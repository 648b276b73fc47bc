"""How much memory this machine has, what would not fit it, and how it tells that there is no more."""

from __future__ import annotations

import os
import re

from locret.errors import LocretError

NO_MORE = re.compile(r"out of memory|can't allocate memory|not enough memory|Storage size calculation overflowed", re.I)


def main_memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def check_room(what: str, nbytes: int, remedy: str) -> None:
    """Refuse what takes more than all memory of this machine, before the system ends the process for it.

    Raises:
        LocretError: naming `what`, both sizes and the remedy.
    """
    memory = main_memory()
    if memory is not None and nbytes > memory:
        raise LocretError(f"{what} would take {_gib(nbytes)}, and this machine has {_gib(memory)} of memory: {remedy}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no more memory; torch has a class of its own for CUDA devices only."""
    from torch import OutOfMemoryError  # not above: commands that only show their help do without torch

    told = isinstance(error, RuntimeError) and NO_MORE.search(str(error))
    return bool(told) or isinstance(error, (MemoryError, OutOfMemoryError))


def _gib(nbytes: int) -> str:
    return f"{nbytes // (1 << 20) / 1024:.1f} GiB"

"""How the C library keeps memory that was given back: reading asks for the same sizes again and again."""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_KEPT = 32 << 20  # the most that glibc allows, and what it comes to by itself in time
MOST_KEPT = 256 << 20
OF_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def hold_memory() -> bool:
    """Let glibc keep blocks of up to 32 MiB that are given back, 256 MiB in all, instead of returning them at once.

    A model on a CPU that reads chunk by chunk otherwise gets the same memory from the system for every layer, page by
    page: `docs/speed.md` has figures. For a whole process, so programs call it and the library never does.

    Returns:
        Whether it was done: not where another C library is in use, or where the environment settles these things.
    """
    if platform.libc_ver()[0] != "glibc" or any(os.environ.get(name) for name in OF_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(M_TRIM_THRESHOLD, MOST_KEPT))

"""Amounts of memory: as people write them, and what this machine has."""

from __future__ import annotations

import os
import re

import torch

from locret.errors import LocretError

UNITS = {"": 1, "B": 1} | {
    prefix + ending: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for ending, base in (("", 1000), ("B", 1000), ("IB", 1024))
}


def parse_memory(text: str) -> int:
    """Bytes from text such as `24GB`, `16 GiB` or `8e9`; GB are 1000^3 bytes, GiB 1024^3.

    Raises:
        LocretError: it is not an amount of memory above 0.
    """
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([A-Z]*)", text.strip(), re.IGNORECASE)
    unit = UNITS.get(found[2].upper()) if found else None
    try:
        amount = float(found[1]) if found else 0.0
    except ValueError:
        amount = 0.0
    if unit is None or not amount * unit >= 1:
        raise LocretError(f"memory is {text!r}: give a number and a unit, such as 24GB, 16GiB or 512MB")
    return int(amount * unit)


def machine_memory(cuda: bool) -> int:
    """Bytes of the first CUDA device, or of this machine.

    Raises:
        LocretError: the system does not tell.
    """
    if cuda:
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError) as error:  # Windows
        raise LocretError("this system does not tell how much memory it has: give --memory, such as 16GB") from error

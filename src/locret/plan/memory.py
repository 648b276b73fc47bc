"""Amounts of memory: as people write them, and what this machine has."""

from __future__ import annotations

import re

import torch

from locret.errors import LocretError
from locret.memory import main_memory

UNITS = {"": 1, "B": 1} | {
    prefix + ending: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for ending, base in (("", 1000), ("B", 1000), ("IB", 1024))
}
MOST = 1 << 63  # bytes


def parse_memory(text: str) -> int:
    """Bytes from text such as `24GB`, `16 GiB` or `8e9`; GB are 1000^3 bytes, GiB 1024^3.

    Raises:
        LocretError: it is not an amount of memory, of 1 byte to 2^63.
    """
    found = re.fullmatch(r"([0-9.]+(?:e[0-9]+)?)\s*([A-Z]*)", text.strip(), re.IGNORECASE)
    unit = UNITS.get(found[2].upper()) if found else None
    try:
        amount = float(found[1]) if found else 0.0
    except ValueError:
        amount = 0.0
    if unit is None or not 1 <= amount * unit <= MOST:
        raise LocretError(f"memory is {text!r}: give a number and a unit, such as 24GB, 16GiB or 512MB")
    return int(amount * unit)


def machine_memory(cuda: bool) -> int:
    """Bytes of the first CUDA device, or of this machine.

    Raises:
        LocretError: there is no CUDA device, or the system does not tell.
    """
    if cuda and not torch.cuda.is_available():
        raise LocretError("torch sees no CUDA device here: give its --memory, such as 24GB, or --device cpu")
    memory = int(torch.cuda.get_device_properties(0).total_memory) if cuda else main_memory()
    if memory is None:
        raise LocretError("this system does not tell how much memory it has: give --memory, such as 16GB")
    return memory

"""Peak memory of this process, as the device or the operating system accounts for it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import torch


def peak_memory_bytes(devices: Iterable[torch.device]) -> int:
    """Peak bytes on all CUDA devices; without one the peak resident size of the whole process (0 where unknown)."""
    cards = [device for device in devices if device.type == "cuda"]
    if cards:
        return sum(map(torch.cuda.max_memory_allocated, cards))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""Peak memory of this process, as the device or the operating system accounts for it."""

from __future__ import annotations

import sys

import torch


def peak_memory_bytes(device: torch.device) -> int:
    """Peak bytes on a CUDA device; on the CPU the peak resident size of the whole process (0 where unknown)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

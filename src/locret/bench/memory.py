"""Peak memory of one run out of several in the same process."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Let the peak start from what is held now; where the system does not allow that, it stays what it was."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    if CLEAR_REFS.exists():
        try:
            CLEAR_REFS.write_text("5", encoding="utf-8")  # see proc(5)
        except OSError:
            return


def peak_bytes(device: torch.device) -> int:
    """The peak since `reset_peak`: of tensors on a CUDA device, else of the resident size of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():
        return resident("VmHWM")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident(field: str) -> int:
    """`VmRSS` (resident now) or `VmHWM` (its peak since the last reset) of this process, on Linux, in bytes."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines[field].split()[0]) * 1024

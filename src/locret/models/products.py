"""A matrix product of few columns, from the side that is faster on this processor."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from torch import Tensor, nn

CPUINFO = Path("/proc/cpuinfo")  # of Linux
AMD = "AuthenticAMD"


def few_columns(inner: Tensor, weight: Tensor) -> Tensor:
    """A linear map to few outputs: inner [..., width] times weight [few, width] transposed gives [..., few].

    MKL has kernels of their own for either maker of processors. On AMD's the product as it stands is shared among
    threads, and W inner^T is not; on Intel's the latter takes a quarter to two thirds of the time (docs/log.md).
    """
    if inner.device.type == "cpu" and on_amd():
        return nn.functional.linear(inner, weight)
    other = weight @ inner.flatten(0, -2).T  # [few, all others]
    return other.T.unflatten(0, inner.shape[:-1])


@functools.cache
def on_amd() -> bool:
    """Whether AMD made the processor, as far as the system says."""
    try:
        return AMD in CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return AMD in platform.processor()

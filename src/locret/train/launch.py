"""Device and processes of a run: what `accelerate launch` says, or one process.

Several processes on the CPU: `accelerate launch --multi_gpu --num_processes 2 -m locret.cli.app train --device cpu`
and so on; `accelerate launch --cpu` starts just one, unless it has MPI.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator

from locret.errors import LocretError, first_line
from locret.models.placement import find_device


def make_accelerator(device: str = "auto") -> Accelerator:
    """The accelerator for a device, in every process of a launch.

    Args:
        device: auto (the best there is), cpu, cuda, or cuda:1 and the like; `accelerate launch`
            with several processes gives each its own and wants auto or cpu.

    Raises:
        LocretError: there is no such device here.
    """
    wanted = None if device == "auto" else find_device(device)
    try:
        if wanted is not None and wanted.index is not None and torch.cuda.is_available():
            torch.cuda.set_device(wanted)
        accelerator = Accelerator(cpu=device == "cpu")
    except (RuntimeError, AssertionError, ValueError) as error:
        raise LocretError(
            f"device {device!r} cannot be used here ({first_line(error)}): give auto, cpu, cuda or cuda:0"
        ) from error
    if wanted is not None and wanted.type != accelerator.device.type:
        raise LocretError(f"device {device!r} is not here, only {accelerator.device.type!r}: give --device auto")
    return accelerator


def default_dtype(device: torch.device) -> str:
    """What a run computes in: bfloat16 where CUDA is good at it, else float32."""
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if fast else "float32"

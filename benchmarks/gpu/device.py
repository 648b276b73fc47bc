"""What the device is: everything that a result has to be read with."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import torch
import transformers

import locret
from benchmarks.gpu.setting import Setting
from benchmarks.machine import processor


def describe_device(setting: Setting) -> dict[str, Any]:
    """Name, versions and measured peaks; of the CPU where the checks are only tried out."""
    found: dict[str, Any] = {
        "name": processor(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "locret": locret.__version__,
        "peak_flops": setting.machine.flops,
        "peak_bandwidth": setting.machine.bandwidth,
    }
    if setting.cuda:
        properties = torch.cuda.get_device_properties(setting.device)
        found |= {
            "name": properties.name,
            "memory_bytes": properties.total_memory,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "driver": driver(),
        }
    return found


def driver() -> str | None:
    """The driver's version, where nvidia-smi says it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None


def file_name(device_name: str) -> str:
    """A device's name in lower case, with dashes for everything else."""
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-") + ".json"

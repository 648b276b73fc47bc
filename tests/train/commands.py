"""Running `locret train` as a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PYTHON = [sys.executable, "-m"]
APP = ["locret.cli.app", "train"]


def train_arguments(model: Path, data: Path, out: Path, steps: int, *more: str) -> list[str]:
    """What follows `python -m` in a small run on the CPU."""
    options = {"--model": model, "--data": data, "--out": out, "--steps": steps, "--width": 16}
    options |= {"--device": "cpu", "--max-length": 64, "--lr": 3e-3, "--batch-size": 2}
    return [*APP, *(str(text) for pair in options.items() for text in pair), "--json", *more]


def environment() -> dict[str, str]:
    """One thread: sums over several could be rounded differently from run to run."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

"""Heads of one model trained by `locret train`, once a seed, and one set of them shipped: what the recipes share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from locret.models.heads import RetainingHeads

SEEDS = (0, 1, 2)
SHIPPED = 0


@dataclass(frozen=True)
class HeadsRecipe:
    """How the heads of a model are trained.

    Attributes:
        model: as `--model` takes it.
        settings: options of `locret train`.
        package: where the shipped heads go.
    """

    model: str
    settings: Mapping[str, str]
    package: Path

    def train(self, runs: Path, data: Path, seed: int) -> Path:
        """Train one set of heads, and return its folder; a finished or interrupted run goes on."""
        out = folder_of(runs, seed)
        command = [sys.executable, "-m", "locret.cli.app", "train", "--model", self.model]
        command += ["--data", str(data), "--out", str(out), "--seed", str(seed)]
        command += [word for pair in self.settings.items() for word in pair]
        subprocess.run(command + (["--resume"] if out.exists() else []), check=True)
        return out

    def ship(self, runs: Path, seed: int = SHIPPED) -> None:
        """Put one set of heads into the package, in bfloat16."""
        RetainingHeads.from_pretrained(folder_of(runs, seed)).to(torch.bfloat16).save_pretrained(self.package)


def folder_of(runs: Path, seed: int) -> Path:
    """Where the heads of one training seed are."""
    return runs / f"heads-{seed}"

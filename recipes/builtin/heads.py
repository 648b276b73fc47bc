"""Train the built-in model's retaining heads with `locret train`, once a seed, and ship one set.

Run ``python -m recipes.builtin.heads --help``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from locret.models.heads import RetainingHeads
from recipes.builtin.tokenizer import BUILTIN

SEEDS = (0, 1, 2)
SHIPPED = 0
CONTEXTS, LENGTH = 1500, 2048
SETTINGS = {
    "--steps": "1500",
    "--lr": "3e-3",
    "--warmup": "100",
    "--width": "256",
    "--max-length": "4096",
    "--objective": "softmax",
    "--dtype": "float32",
    "--device": "cpu",
}


def folder_of(runs: Path, seed: int) -> Path:
    """Where the heads of one training seed are."""
    return runs / f"heads-{seed}"


def train(runs: Path, data: Path, seed: int) -> None:
    """Train one set of heads; a finished or interrupted run goes on."""
    out = folder_of(runs, seed)
    command = [sys.executable, "-m", "locret.cli.app", "train", "--model", str(BUILTIN)]
    command += ["--data", str(data), "--out", str(out), "--seed", str(seed)]
    command += [word for pair in SETTINGS.items() for word in pair]
    subprocess.run(command + (["--resume"] if out.exists() else []), check=True)


def ship(runs: Path, seed: int = SHIPPED) -> None:
    """Put one set of heads into the package, in bfloat16."""
    heads = RetainingHeads.from_pretrained(folder_of(runs, seed))
    heads.to(torch.bfloat16).save_pretrained(BUILTIN / "heads")


def main() -> None:
    """Train every seed, or those that are named, and ship the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/builtin"))
    parser.add_argument("--data", type=Path, help="made by recipes.builtin.heads_data; default: in --runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ship", action="store_true", help=f"put the heads of seed {SHIPPED} into the package")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        train(arguments.runs, arguments.data or arguments.runs / "heads_data.jsonl", seed)
    if arguments.ship:
        ship(arguments.runs)


if __name__ == "__main__":
    main()

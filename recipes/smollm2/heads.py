"""Train SmolLM2's retaining heads with `locret train`, once a seed, and ship one set.

A seed takes about half an hour of one core (two seeds side by side take two); a run that was interrupted goes on from
its newest checkpoint. Run ``python -m recipes.smollm2.heads --help``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import locret
from locret.models.heads import RetainingHeads
from recipes.smollm2.data import write_data

SEEDS = (0, 1, 2)
SHIPPED = 0
PACKAGE = Path(locret.__file__).parent / "smollm2" / "heads"
LOGS = Path(__file__).parent / "results" / "training"
SETTINGS = {
    "--steps": "400",
    "--lr": "2e-3",
    "--warmup": "40",
    "--width": "128",
    "--max-length": "2048",
    "--objective": "root_softmax",
    "--dtype": "float32",
    "--device": "cpu",
    "--save-every": "20",
}


def folder_of(runs: Path, seed: int) -> Path:
    """Where the heads of one training seed are."""
    return runs / f"heads-{seed}"


def train(model: str, runs: Path, seed: int) -> None:
    """Train one set of heads; a finished or interrupted run goes on."""
    out = folder_of(runs, seed)
    command = [sys.executable, "-m", "locret.cli.app", "train", "--model", model, "--data", str(runs / "train.jsonl")]
    command += ["--out", str(out), "--seed", str(seed), *(word for pair in SETTINGS.items() for word in pair)]
    subprocess.run(command + (["--resume"] if out.exists() else []), check=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(out / "log.jsonl", LOGS / f"seed-{seed}.jsonl")


def ship(runs: Path, seed: int = SHIPPED) -> None:
    """Put one set of heads into the package, in bfloat16."""
    RetainingHeads.from_pretrained(folder_of(runs, seed)).to(torch.bfloat16).save_pretrained(PACKAGE)


def main() -> None:
    """Make the data if need be, train every seed, or those that are named, and ship the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--runs", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--ship", action="store_true", help=f"put the heads of seed {SHIPPED} into the package")
    arguments = parser.parse_args()
    if not (arguments.runs / "train.jsonl").is_file():
        write_data(arguments.runs / "train.jsonl", arguments.model)
    for seed in arguments.seeds:
        train(arguments.model, arguments.runs, seed)
    if arguments.ship:
        ship(arguments.runs)


if __name__ == "__main__":
    main()

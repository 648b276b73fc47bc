"""Train SmolLM2's retaining heads with `locret train`, once a seed, and ship one set.

A seed takes 25 minutes of one core, so two seeds side by side take two. Run ``python -m recipes.smollm2.heads --help``.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from locret.models.checkpoint import HEADS, SMOLLM2
from recipes.seeds import SEEDS, SHIPPED, HeadsRecipe
from recipes.smollm2.data import write_data

LOGS = Path(__file__).parent / "results" / "training"
RECIPE = HeadsRecipe(
    model="smollm2",
    settings={
        "--steps": "400",
        "--lr": "2e-3",
        "--warmup": "40",
        "--width": "128",
        "--max-length": "2048",
        "--objective": "root_softmax",
        "--dtype": "float32",
        "--device": "cpu",
        "--save-every": "20",
    },
    package=SMOLLM2 / HEADS,
)


def main() -> None:
    """Make the data if need be, train every seed, or those that are named, and ship the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/smollm2"))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--ship", action="store_true", help=f"put the heads of seed {SHIPPED} into the package")
    arguments = parser.parse_args()
    data = arguments.runs / "train.jsonl"
    if not data.is_file():
        write_data(data, RECIPE.model)
    LOGS.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        trained = RECIPE.train(arguments.runs, data, seed)
        shutil.copyfile(trained / "log.jsonl", LOGS / f"seed-{seed}.jsonl")
    if arguments.ship:
        RECIPE.ship(arguments.runs)


if __name__ == "__main__":
    main()

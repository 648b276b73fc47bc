"""Train the built-in model's retaining heads with `locret train`, once a seed, and ship one set.

Run ``python -m recipes.builtin.heads --help``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from recipes.builtin.tokenizer import BUILTIN
from recipes.seeds import SEEDS, SHIPPED, HeadsRecipe

CONTEXTS, LENGTH = 1500, 2048
RECIPE = HeadsRecipe(
    model=str(BUILTIN),
    settings={
        "--steps": "1500",
        "--lr": "3e-3",
        "--warmup": "100",
        "--width": "256",
        "--max-length": "4096",
        "--objective": "softmax",
        "--dtype": "float32",
        "--device": "cpu",
    },
    package=BUILTIN / "heads",
)


def main() -> None:
    """Train every seed, or those that are named, and ship the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/builtin"))
    parser.add_argument("--data", type=Path, help="made by recipes.builtin.heads_data; default: in --runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--ship", action="store_true", help=f"put the heads of seed {SHIPPED} into the package")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        RECIPE.train(arguments.runs, arguments.data or arguments.runs / "heads_data.jsonl", seed)
    if arguments.ship:
        RECIPE.ship(arguments.runs)


if __name__ == "__main__":
    main()

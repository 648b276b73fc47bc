"""Everything that makes the built-in model, in order: `make builtin`.

Tokenizer, backbone, data for the heads, heads of three seeds, full attention by task and length, every policy, merger.
Takes about three hours on two cores. Each step that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from recipes.builtin.heads import CONTEXTS, LENGTH
from recipes.seeds import SEEDS, folder_of

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "text" / "books_train.jsonl.gz"


def steps(books: list[str], runs: Path) -> list[list[str]]:
    """The modules to run, with their arguments."""
    data = runs / "heads_data.jsonl"
    heads = [str(folder_of(runs, seed)) for seed in SEEDS]
    return [
        ["tokenizer", *books],
        ["train_backbone", "--runs", str(runs), *books],
        ["heads_data", "--out", str(data), "--contexts", str(CONTEXTS), "--length", str(LENGTH), *books],
        ["heads", "--runs", str(runs), "--ship"],
        ["evaluate"],
        ["policies", "--heads", *heads],
        ["tables"],
    ]


def main() -> None:
    """Run all steps; stop at the first that fails."""
    parser = argparse.ArgumentParser(prog="make builtin", description=__doc__)
    parser.add_argument("--books", type=Path, default=BESIDE, help="JSON lines with public-domain books")
    parser.add_argument("--runs", type=Path, default=Path("runs/builtin"), help="where unfinished work is kept")
    arguments = parser.parse_args()
    books = ["--books", str(arguments.books)] if arguments.books.exists() else []
    if not books:
        print("no books at hand: training on Python's docstrings alone")
    for module, *options in steps(books, arguments.runs):
        print(f"--- {module}", flush=True)
        subprocess.run([sys.executable, "-m", f"recipes.builtin.{module}", *options], check=True)
    print("--- merger", flush=True)  # of the storage lococo
    subprocess.run([sys.executable, "-m", "recipes.merger"], check=True)


if __name__ == "__main__":
    main()

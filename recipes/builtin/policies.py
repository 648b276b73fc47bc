"""The built-in model under every policy: locret with each seed of its heads, beside full attention and the rivals.

The grids are in `policies.json`. Rows are appended to `results/policies.jsonl` as they are known, so a run that was
stopped goes on; `--shard 0/2` and `--shard 1/2` share the work between two processes.

Run ``python -m recipes.builtin.policies --help``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import locret
from locret.eval.grid import Cell, Grid, cells, parse_budget
from locret.eval.haystack import Context, Filler
from locret.eval.results import ResultFile, Row, Subject
from locret.eval.runner import Reader
from locret.eval.subject import subject_of
from locret.folders import alone_in

HERE = Path(__file__).parent
CONFIGURATION = HERE / "policies.json"
RESULTS = HERE / "results" / "policies"


class Quiet:
    """Nobody watches but the log: one line a finished cell."""

    def begin(self, cell: Cell, tokens: int) -> None:
        """Nothing to say yet."""

    def advance(self, tokens: int) -> None:
        """Not shown."""

    def answered(self, cell: Cell, context: Context, session: Any, right: Any) -> None:
        """Not shown."""

    def end(self, row: Row, resumed: bool) -> None:
        """Print the row."""
        cell = row.cell
        seconds = row.measures.prefill_seconds
        print(
            f"{cell.task:6} {cell.keys:2} {cell.split:8} first={cell.query_first:d} {cell.length:5} "
            f"{cell.budget.size:5} {cell.policy:15} {row.measures.score:5.1f}  read {seconds:.1f} s",
            flush=True,
        )


def grids(configuration: dict[str, Any]) -> Iterator[tuple[Grid, list[str] | None]]:
    """The grids of the configuration file, with the policies that each is for (None: all)."""
    for grid in configuration["grids"].values():
        wanted = {**configuration, **grid}
        yield (
            Grid(
                tasks=tuple(grid["tasks"]),
                lengths=tuple(wanted["lengths"]),
                budgets=tuple(parse_budget(text) for text in wanted["budgets"]),
                samples=grid["samples"],
                seeds=(configuration["seed"],),
                keys=grid["keys"],
                split=grid["split"],
                query_first=grid.get("query_first", False),
            ),
            grid.get("policies"),
        )


def policies(folders: list[Path]) -> dict[str, locret.policies.Policy]:
    """Every policy; locret once for each folder of heads."""
    from locret.policies import get_policy

    trained = {
        f"locret/{number}": get_policy("locret", heads=locret.RetainingHeads.from_pretrained(folder))
        for number, folder in enumerate(folders)
    }
    rivals = {name: get_policy(name) for name in ("streaming_llm", "random")}
    return {"full": get_policy("full"), **trained, **rivals}


def main() -> None:
    """Evaluate a shard of all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=Path, nargs="+", required=True, help="folders of heads, one a training seed")
    parser.add_argument("--shard", default="0/1", help="which part of the cells: i/n")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    shard, shards = map(int, arguments.shard.split("/"))
    configuration = json.loads(CONFIGURATION.read_text(encoding="utf-8"))
    model, tokenizer, _ = locret.load_builtin()
    by_name = policies(arguments.heads)
    reader = Reader(model, tokenizer, by_name, Filler.python_reference(), Quiet())
    folder = arguments.out / f"shard-{shard}"
    every = [
        cell
        for grid, wanted in grids(configuration)
        for cell in cells(grid, by_name if wanted is None else {name: by_name[name] for name in wanted})
    ]
    with alone_in(folder):
        results = ResultFile(folder)
        for cell in every[shard::shards]:
            subject = _subject(model, by_name[cell.policy], configuration["filler"])
            row = results.find(cell, subject)
            if row is None:
                row = Row(cell, reader.evaluate(cell), subject)
                results.append(row)
            reader.watch.end(row, False)


def _subject(model: Any, policy: Any, filler: str) -> Subject:
    heads = getattr(policy, "heads", None)
    name = f"{heads.config.objective}, width {heads.config.width}" if heads else ""
    return subject_of(model, heads, model_name="builtin", heads_name=name, filler=filler)


if __name__ == "__main__":
    main()

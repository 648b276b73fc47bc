"""The parts of the report: read from `config.json`, evaluated, found again in their folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from locret.cli.evaluating import Job, evaluate
from locret.errors import LocretError
from locret.eval.grid import Grid, parse_budget, size_of
from locret.eval.lines import LineFile
from locret.eval.merging import merge
from locret.eval.planning import Shard
from locret.eval.quizzes.data import Data
from locret.eval.results import ResultFile, Row
from locret.folders import alone_in
from recipes.report.sizes import units_for

CONFIGURATION = Path(__file__).parent / "config.json"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the report.

    Attributes:
        name: in the configuration, and of its folder.
        title, about: what the document says of it.
        by_bytes: whether methods are compared by the bytes they hold, not by their budgets.
        grids: what is evaluated, with the methods of each.
    """

    name: str
    title: str
    about: str
    by_bytes: bool
    grids: tuple[tuple[tuple[str, ...], Grid], ...]

    def jobs(self, shard: Shard) -> list[Job]:
        """The evaluations of a share of it, with the built-in model."""
        return [Job("builtin", None, names, grid, None, Data(), "auto", "auto", shard) for names, grid in self.grids]

    def asks_for(self, row: Row) -> bool:
        """Whether a row is of this part as it is configured now."""
        return any(_wanted(row, names, grid) for names, grid in self.grids)


def parts(path: Path = CONFIGURATION) -> list[Part]:
    """All parts of a configuration file."""
    configuration = json.loads(path.read_text(encoding="utf-8"))
    return [_part(name, {**configuration["all"], **one}) for name, one in configuration["parts"].items()]


def _part(name: str, one: dict[str, Any]) -> Part:
    base = Grid(
        tasks=tuple(one["tasks"]),
        lengths=tuple(one["lengths"]),
        budgets=tuple(parse_budget(text) for text in one["budgets"]),
        samples=one["samples"],
        seeds=tuple(one["seeds"]),
        keys=one["keys"],
        query_first=one.get("query_first", False),
    )
    grids = [(tuple(one["policies"]), base)]
    for length in one["lengths"] if "at_bytes" in one else ():
        grids += [((method,), grid) for method, grid in _at_bytes(one["at_bytes"], replace(base, lengths=(length,)))]
    return Part(name, one["title"], one["about"], "at_bytes" in one, tuple(grids))


def _at_bytes(wanted: dict[str, list[str]], grid: Grid) -> list[tuple[str, Grid]]:
    """For each method the budgets with which it holds as many bytes as is wanted."""
    [length] = grid.lengths
    return [
        (method, replace(grid, budgets=tuple(units_for(method, goal, length) for goal in goals)))
        for method, goals in wanted.items()
    ]


def run(part: Part, runs: Path, shard: Shard, console: Console) -> None:
    """Evaluate a share of a part; what an earlier run has done is not done again."""
    console.print(f"{part.name}: share {shard.index} of {shard.count}")
    folder = runs / part.name / f"{shard.index}-of-{shard.count}"
    with alone_in(folder):
        results = ResultFile(folder)
        for job in part.jobs(shard):
            evaluate(job, results, 1, console)


def gather(part: Part, runs: Path) -> list[Row]:
    """The rows of a part, whoever evaluated them, and their predictions in one folder; none if there are none.

    Rows that an earlier configuration asked for are left out.

    Raises:
        LocretError: a file is damaged.
    """
    shares = sorted((runs / part.name).glob("*-of-*"))
    rows = merge(shares, together(part, runs)) if shares else []
    return in_order(part, [row for row in rows if part.asks_for(row)])


def check_kept(every: Sequence[Part], runs: Path, written: Path) -> None:
    """Refuse a report with less in it than the last one: results that are elsewhere, or not there yet.

    Args:
        every: the parts of the report.
        runs: where they were evaluated.
        written: the folder with the rows of the last report.

    Raises:
        LocretError: nothing was evaluated at all, or rows that are still asked for are missing.
    """
    missing, found = [], 0
    for part in every:
        cells = {row.cell for row in gather(part, runs)}
        found += len(cells)
        path = written / f"{part.name}.jsonl"
        before = [row for row in (Row.from_json(line) for line in LineFile(path).lines) if part.asks_for(row)]
        if lost := sum(row.cell not in cells for row in before):
            missing.append(f"{lost} of {len(before)} rows of {part.name}")
    if missing or not found:
        raise LocretError(
            f"{runs} lacks {', '.join(missing) or 'every row'}, so no report was written: evaluate first "
            "(python -m recipes.report --evaluate goes on where it stopped), or name the right folder with --runs"
        )


def _wanted(row: Row, names: Sequence[str], grid: Grid) -> bool:
    cell = row.cell
    if cell.policy not in names or cell.length not in grid.lengths or cell.seed not in grid.seeds:
        return False
    sizes = {cell.length, *(size_of(budget, cell.length) for budget in grid.budgets)}
    return cell.samples == grid.samples and cell.budget.size in sizes


def together(part: Part, runs: Path) -> Path:
    """The folder with all predictions of a part."""
    return runs / part.name / "all"


def in_order(part: Part, rows: Sequence[Row]) -> list[Row]:
    """By task and length, then method as the part names them, then budget from wide to narrow."""
    names = dict.fromkeys(name for methods, _ in part.grids for name in methods)
    place = {name: number for number, name in enumerate(names)}
    return sorted(rows, key=lambda row: (row.cell.task, row.cell.length, place[row.cell.policy], -row.cell.budget.size))

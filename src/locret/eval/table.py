"""Tables of results: for the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from locret.eval.results import Row

COLUMNS = ("task", "length", "budget", "policy", "score", "95 %", "KV", "read s", "answer s")
FIDELITY = ("task", "length", "budget", "policy", "agree %", "95 %", "KL", "NLL", "KV", "read s")
LEFT = frozenset({"task", "policy", "95 %"})


def rich_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """One line a row, for the terminal.

    Where all rows are of forced continuations, their figures stand in place of what only answers have; the score is the
    agreement, and its interval stands beside it.
    """
    columns = _columns(rows)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in columns:
        # a long name is folded, so that figures stay whole on a narrow terminal
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=name != "task", overflow="fold")
    previous: tuple[str, int] | None = None
    for row in rows:
        block = (row.cell.task, row.cell.length)
        if previous not in (None, block):
            table.add_section()
        previous = block
        fields = _fields(row)
        table.add_row(*(fields.get(name, "") for name in columns))
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """Scores in per cent, the mean of all seeds: a line for each task, length and budget, a column for each policy.

    Where a continuation was forced, the score is the agreement, and KL and NLL (nats a token) stand beside it.
    What does not go by the budget was read once for all of them (its budget is the length); it stands in every line.
    """
    policies = list(dict.fromkeys(row.cell.policy for row in rows))
    scores: dict[tuple[str, int, int, str], list[Row]] = {}
    for row in rows:
        scores.setdefault((*_setting(row), row.cell.policy), []).append(row)
    settings = list(dict.fromkeys(map(_setting, rows)))
    budgeted = [(task, length, size) for task, length, size in settings if size < length]
    lines = ["| task | length | budget | " + " | ".join(policies) + " |", "|---|--:|--:|" + "--:|" * len(policies)]
    for task, length, size in budgeted or settings:
        cells = (scores.get((task, length, size, p)) or scores.get((task, length, length, p)) for p in policies)
        figures = ("-" if found is None else _means(found) for found in cells)
        lines.append(f"| {task} | {length} | {size} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def _means(rows: Sequence[Row]) -> str:
    """The score of several seeds, and where they are known KL and NLL."""
    told = [row.measures.fidelity for row in rows]
    known = [one for one in told if one is not None]
    score = f"{fmean(row.measures.score for row in rows):.1f}"
    if not known:
        return score
    return f"{score}, KL {fmean(one.kl for one in known):.3f}, NLL {fmean(one.nll for one in known):.2f}"


def _setting(row: Row) -> tuple[str, int, int]:
    return row.cell.task, row.cell.length, row.cell.budget.size


def human_bytes(count: float) -> str:
    """Bytes in the largest binary unit that leaves at least 1.

    >>> human_bytes(1536)
    '1.5 KiB'
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while count >= 1024 and power < len(units) - 1:
        count /= 1024
        power += 1
    return f"{count:.0f} B" if power == 0 else f"{count:.1f} {units[power]}"


def _columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Of the terminal's table; rows of both kinds have all columns between them."""
    forced = [row.measures.fidelity is not None for row in rows]
    if rows and all(forced):
        return FIDELITY
    return (*COLUMNS, "KL", "NLL") if any(forced) else COLUMNS


def _fields(row: Row) -> dict[str, str]:
    """What stands in each column."""
    cell, measures, told = row.cell, row.measures, row.measures.fidelity
    fields = {
        "task": cell.task,
        "length": str(cell.length),
        "budget": str(cell.budget.size),
        "policy": cell.policy,
        "score": f"{measures.score:.1f}",
        "95 %": f"{measures.low:.0f}-{measures.high:.0f}",
        "KV": human_bytes(measures.kv_bytes),
        "read s": f"{measures.prefill_seconds:.2f}",
        "answer s": f"{measures.decode_seconds:.2f}",
    }
    if told is None:
        return fields
    return {**fields, "agree %": f"{told.agreement:.1f}", "KL": f"{told.kl:.3f}", "NLL": f"{told.nll:.2f}"}

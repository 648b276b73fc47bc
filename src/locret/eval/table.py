"""Tables of results: for the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.table import Table

from locret.eval.results import Row

COLUMNS = ("task", "length", "budget", "policy", "score", "95 %", "KV", "read s", "answer s")
NUMERIC = frozenset({"length", "budget", "score", "KV", "read s", "answer s", "KL", "agree %", "NLL"})
FIDELITY = ("KL", "agree %", "NLL")  # only where a row has them


def rich_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """One line a row, for the terminal."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    forced = any(row.measures.fidelity for row in rows)
    for name in (*COLUMNS, *(FIDELITY if forced else ())):
        # a long name is folded, so that figures stay whole on a narrow terminal
        table.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=name != "task", overflow="fold")
    previous: tuple[str, int] | None = None
    for row in rows:
        block = (row.cell.task, row.cell.length)
        if previous not in (None, block):
            table.add_section()
        previous = block
        table.add_row(*_fields(row), *(_fidelity(row) if forced else ()))
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


def _fields(row: Row) -> tuple[str, ...]:
    cell, measures = row.cell, row.measures
    return (
        cell.task,
        str(cell.length),
        str(cell.budget.size),
        cell.policy,
        f"{measures.score:.1f}",
        f"{measures.low:.0f}-{measures.high:.0f}",
        human_bytes(measures.kv_bytes),
        f"{measures.prefill_seconds:.2f}",
        f"{measures.decode_seconds:.2f}",
    )


def _fidelity(row: Row) -> tuple[str, ...]:
    told = row.measures.fidelity
    return ("", "", "") if told is None else (f"{told.kl:.3f}", f"{told.agreement:.1f}", f"{told.nll:.2f}")

"""The tables of the report, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from locret.eval.table import human_bytes
from recipes.report.pooled import Pooled

OURS = "locret"
SAME_BYTES = 0.02  # budgets are whole units, so bytes are never quite equal
DEPTHS = 5  # parts of a document in the table by depth


def by_budget(results: Sequence[Pooled], length: int) -> str:
    """A line for each method, a column for each budget.

    A score is bold where the method is ahead of locret at the same budget by more than chance (the interval of the
    paired difference is above 0), and has a ~ where the two cannot be told apart.
    """
    own = [one for one in results if one.setting.length == length]
    sizes = sorted({one.setting.budget for one in own if one.setting.budget < length}, reverse=True)
    lines = [_line(["", *(f"{size} ({_share(size, length)})" for size in sizes)]), _rule(len(sizes))]
    ours = {one.setting.budget: one for one in own if one.method == OURS}
    for method in dict.fromkeys(one.method for one in own):
        found = {one.setting.budget: one for one in own if one.method == method}
        cells = [_score(found.get(size) or found.get(length), ours.get(size)) for size in sizes]
        lines.append(_line([method, *cells]))
    return "\n".join(lines)


def by_depth(results: Sequence[Pooled], length: int, budget: int) -> str:
    """A line for each method at one budget, a column for each part of the document that a fact may stand in."""
    parts = [f"{100 * part // DEPTHS}-{100 * (part + 1) // DEPTHS} %" for part in range(DEPTHS)]
    lines = [_line(["", *parts]), _rule(DEPTHS)]
    for one in results:
        if one.setting.length == length and one.setting.budget in (budget, length):
            lines.append(_line([one.method, *_by_part(one)]))
    return "\n".join(lines)


def by_bytes(results: Sequence[Pooled], length: int) -> str:
    """Methods of one length with all their figures, from few bytes to many."""
    own = sorted((one for one in results if one.setting.length == length), key=lambda one: one.kv_bytes)
    names = ["", "budget", "KV bytes", "score", "over locret", "read a document, s", "answer a question, s"]
    lines = [_line(names), _rule(len(names) - 1)]
    for one in own:
        score, low, high = one.score()
        budget = str(one.setting.budget) if one.setting.budget < length else "all"
        figures = [budget, human_bytes(one.kv_bytes), f"{score:.1f} ({low:.0f}-{high:.0f})", _over_ours(one, own)]
        lines.append(_line([one.method, *figures, f"{one.prefill_seconds:.2f}", f"{one.decode_seconds:.3f}"]))
    return "\n".join(lines)


def wins(results: Sequence[Pooled]) -> list[str]:
    """Where another method that evicts is ahead of locret by more than chance, a sentence each."""
    ours = {one.setting: one for one in results if one.method == OURS}
    found = []
    for one in results:
        if one.method in (OURS, "full") or one.setting not in ours:
            continue
        ahead, low, high = one.ahead_of(ours[one.setting])
        if low > 0:
            found.append(
                f"{one.method} at {one.setting.budget} of {one.setting.length} units: "
                f"{ahead:+.1f} points ({low:+.1f} to {high:+.1f})"
            )
    return found


def _over_ours(one: Pooled, others: Sequence[Pooled]) -> str:
    """How far a method is ahead of locret at the same bytes, in points; bold where that is more than chance."""
    same = [other for other in others if abs(other.kv_bytes / one.kv_bytes - 1) <= SAME_BYTES]
    ours = [other for other in same if other.method == OURS]
    if not ours or one.method == OURS:
        return ""
    ahead, low, high = one.ahead_of(ours[0])
    text = f"{ahead:+.1f} ({low:+.0f} to {high:+.0f})"
    return f"**{text}**" if low > 0 else text


def _by_part(one: Pooled) -> Iterable[str]:
    for part in range(DEPTHS):
        scores = [line["score"] for line in one.lines.values() if min(int(line["depth"] * DEPTHS), DEPTHS - 1) == part]
        yield f"{100 * sum(scores) / len(scores):.0f}" if scores else "-"


def _score(one: Pooled | None, ours: Pooled | None) -> str:
    if one is None:
        return "-"
    score, low, high = one.score()
    text = f"{score:.1f} ({low:.0f}-{high:.0f})"
    if ours is None or one.method == OURS:
        return text
    _, low, high = one.ahead_of(ours)
    if low > 0:
        return f"**{text}**"
    return text if high < 0 else f"~ {text}"


def _share(size: int, length: int) -> str:
    return str(Fraction(size, length).limit_denominator(128))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|---|" + "--:|" * columns

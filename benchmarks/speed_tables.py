"""The tables of docs/speed.md, from the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.document import table
from benchmarks.speed_bounds import Bound

PICTURE = "![Reading speed of the contestants, and where the time of locret goes](assets/speed.png)"


def document(parts: dict[str, Any], bounds: Sequence[Bound]) -> str:
    """Everything between the markers."""
    if not parts:
        return "Not measured yet: `python -m benchmarks.speed`."
    made = [WRITERS[name.split("/")[0]](name.partition("/")[2], part) for name, part in parts.items()]
    return "\n\n".join([PICTURE, *made, bound_table(bounds)])


def prefill(model: str, part: dict[str, Any]) -> str:
    """Reading: one line a contestant."""
    rows = [
        [
            row["policy"], *_figures(row), f"{row['flops'] / 1e12:.3g}", _share(row["roofline_share"]),
        ] for row in part["rows"]
    ]  # fmt: skip
    lines = [_heading(f"Reading, {model}", part), table(("", "tokens/s", "s", "range", "TFLOP", "of roofline"), rows)]
    said = [
        f"{what}: {_ratio(part[key])}; {part[flops]:.3f} by arithmetic."
        for key, flops, what in (
            ("locret_over_limit", "locret_over_limit_flops", "Seconds of locret over limit"),
            ("full_over_locret", "full_over_locret_flops", "Seconds of full over locret"),
        )
        if part.get(key)
    ]
    if part.get("transformers_over_locret"):
        said.append(f"Seconds of transformers over locret: {_ratio(part['transformers_over_locret'])}.")
    return "\n\n".join([*lines, "\n".join(said)])


def chunks(model: str, part: dict[str, Any]) -> str:
    """Limit and locret in turns chunk by chunk: what a chunk takes, and its steps."""
    steps = list(part["rows"][0]["milliseconds"])
    rows = [
        [row["policy"], _range(row["seconds_all"]), *(f"{row['milliseconds'][step]:.2f}" for step in steps)]
        for row in part["rows"]
    ]
    names = ("", "s a round", "chunk, ms", *(f"{step}, ms" for step in steps[1:]))
    heading = _heading(f"Chunks in turns, {model}", part)
    said = f"Seconds of locret over limit: {_ratio(part['locret_over_limit'])}."
    return f"{heading}\n\n{table(names, rows)}\n\n{said}"


def decode(model: str, part: dict[str, Any]) -> str:
    """Writing after many tokens and after few."""
    rows = [
        [
            str(row["seen"]), str(row["kept"]), "static" if row.get("static") else "growing",
            f"{row['tokens_per_second']:.1f}", _range(row["seconds_all"]),
        ] for row in part["rows"]
    ]  # fmt: skip
    own = part["config"]
    static = part.get("static_over_growing")
    return "\n\n".join(
        [
            _heading(f"Writing, {own['model']}", part),
            table(
                (
                    "tokens read",
                    "units kept",
                    "cache",
                    "tokens/s",
                    f"s for {2 * own['turns']} x {own['tokens']} tokens",
                ),
                rows,
                left=0,
            ),
            f"Seconds after many over after few: {_ratio(part['many_over_few'])}."
            + (f"\nSeconds in static shapes over a growing cache: {_ratio(static)}." if static else ""),
        ]
    )


def rivals(model: str, part: dict[str, Any]) -> str:
    """Reading with every policy, over the limit."""
    over = part["over_limit"]
    rows = [
        [row["policy"], *_figures(row), f"{over[row['policy']]['of_rounds']:.3f}" if over.get(row["policy"]) else ""]
        for row in part["rows"]
    ]
    heading = _heading(f"Policies, {part['config']['model']}", part)
    return f"{heading}\n\n{table(('', 'tokens/s', 's', 'range', 'over limit, by rounds'), rows)}"


def profile(model: str, part: dict[str, Any]) -> str:
    """Where the time goes."""
    rows = [[own["name"], f"{100 * own['share']:.1f} %"] for own in part["parts"]]
    return f"{_heading(f'Where the time of reading goes, locret, {model}', part)}\n\n{table(('part', 'share'), rows)}"


def bound_table(bounds: Sequence[Bound]) -> str:
    """All bounds, held or not."""
    rows = [
        [
            bound.what, f"{bound.value:.3f}", f"{bound.of_medians:.3f}",
            f"{'>=' if bound.at_least else '<='} {bound.limit}", "yes" if bound.holds else "**no**",
        ] for bound in bounds
    ]  # fmt: skip
    return f"### Bounds\n\n{table(('', 'by rounds', 'by medians', 'bound', 'holds'), rows)}"


WRITERS = {"prefill": prefill, "chunks": chunks, "decode": decode, "rivals": rivals, "profile": profile}


def _heading(title: str, part: dict[str, Any]) -> str:
    machine, own = part["machine"], part["config"]
    subject, budget = own["subject"], own.get("budget", own["subject"]["budget"])
    shape = f", {subject['layers']} layers of {subject['shape']}" if "shape" in subject else ""
    units = ", ".join(f"{name} {value}" for name, value in budget.items())
    repeats = f"; {own['repeats']} rounds" if "repeats" in own else ""
    if repeats and (turns := _turns(own)) > 1:
        repeats += f" of {2 * turns} answers" if "seen" in own else f" of {turns} readings"
    return (
        f"### {title}\n\n{own.get('length', subject['length']) if 'seen' not in own else own['seen']} tokens{shape}; "
        f"{units}{repeats}. {machine['processor']}, threads: {machine['threads']} of "
        f"{machine['cores']} cores, load before: {machine['load_before']}; torch {machine['torch']}, fp32."
    )


def _turns(own: dict[str, Any]) -> int:
    """How often each contestant reads in a round; limit and locret as often as the model's entry says."""
    return int((own if "model" in own else own["subject"]).get("turns", 1))


def _figures(row: dict[str, Any]) -> list[str]:
    if row["prefill_seconds"] is None:
        return ["out of memory", "", ""]
    rate = f"{row['prefill_tokens_per_second']:.0f}"
    return [rate, f"{row['prefill_seconds']:.2f}", _range(row["prefill_seconds_all"])]


def _range(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.2f} - {max(seconds):.2f}"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _ratio(found: dict[str, Any]) -> str:
    low, high = min(found["rounds"]), max(found["rounds"])
    return f"{found['of_rounds']:.3f} by rounds ({low:.3f} - {high:.3f}), {found['of_medians']:.3f} by medians"

"""The tables of docs/speed.md: one section for each device that there is a file of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.document import table

NONE = "No GPU results: there is no file in `benchmarks/results/gpu`."
Row = dict[str, Any]


def document(folder: Path) -> str:
    """Everything between the markers, from the files of a folder."""
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return "\n\n".join(section(json.loads(file.read_text(encoding="utf-8"))) for file in files) or NONE


def section(result: dict[str, Any]) -> str:
    """One device: what it is, and a line for each check."""
    device, setting = result["device"], result["setting"]
    rows = [[row["check"], "passed" if row["passed"] else "**failed**", said(row)] for row in result["checks"]]
    versions = ", ".join(f"{name} {device[name]}" for name in ("driver", "cuda", "torch") if device.get(name))
    tried = " **Tiny models: these figures only say that the checks run.**" if setting["tiny"] else ""
    units = ", ".join(f"{name} {setting['budget'][name]}" for name in ("size", "chunk", "stabilizers", "local"))
    return (
        f"### {device['name']}\n\n{versions}; measured peaks {device['peak_flops'] / 1e12:.1f} TFLOP/s, "
        f"{device['peak_bandwidth'] / 1e9:.0f} GB/s in bf16. Large models: {setting['dtype']}, {setting['length']} "
        f"tokens, {units}, random weights.{tried}\n\n{table(('check', '', 'figures'), rows, left=3)}"
    )


def said(row: Row) -> str:
    """The figures of a check in words."""
    if "error" in row:
        return str(row["error"]).replace("|", "\\|")
    return SAID[row["check"].split("/")[0]](row)


def _logits(row: Row) -> str:
    same = f", same units {100 * row['same_units']:.2f} %" if "same_units" in row else ""
    return f"relative error {row['relative_error']:.1e} (at most {row['tolerance']:g}){same}"


def _attention(row: Row) -> str:
    return f"fastest: {row['best']}; " + _list(
        row["alternatives"], "milliseconds", lambda own: f"{own['milliseconds']:.2f} ms" + _wrong(own)
    )


def _wrong(own: Row) -> str:
    return "" if own["right"] else f" (WRONG by {own['relative_error']:.1e})"


def _decode(row: Row) -> str:
    ways = _list(row["ways"], "tokens_per_second", lambda own: f"{own['tokens_per_second']:.1f} tokens/s")
    return f"{ways}; roofline {row['roofline_tokens_per_second']:.1f}"


def _capped(row: Row) -> str:
    cap = f", reserved {_gb(row['reserved_bytes'])} of {_gb(row['cap_bytes'])}" if row["cap_bytes"] else ""
    return (
        f"{row['tokens']} tokens, {row['prefill_tokens_per_second']:.0f} tokens/s, KV {_gb(row['kv_bytes'])}, peak "
        f"{_gb(row['prefill_peak_bytes'])} reading, {_gb(row['peak_bytes'])} with the answer{cap}, planned "
        f"{_gb(row['planned_bytes'])}"
    )


def _speed(row: Row) -> str:
    over = row["locret_over_limit"]
    lead = f"seconds of locret over limit {over['of_rounds']:.3f}; " if over else ""
    return lead + "; ".join(f"{own['name']} {_contestant(own)}" for own in row["contestants"])


def _contestant(own: Row) -> str:
    if own["prefill_seconds"] is None:
        return "out of memory"
    parts = [
        f"{rate:.0f} tokens/s {what} ({100 * share:.0f} % of roofline)"
        for what, rate, share in (
            ("prefill", own["prefill_tokens_per_second"], own["prefill_roofline_share"]),
            ("decode", own["decode_tokens_per_second"], own["decode_roofline_share"]),
        )
        if rate
    ]
    return ", ".join(parts)


SAID: dict[str, Callable[[Row], str]] = {
    "logits": _logits, "attention": _attention, "decode": _decode, "capped": _capped, "speed": _speed,
}  # fmt: skip


def _list(rows: Sequence[Row], figure: str, say: Callable[[Row], str]) -> str:
    return ", ".join(f"{own['name']} {say(own) if own[figure] is not None else 'not measured'}" for own in rows)


def _gb(nbytes: float) -> str:
    return f"{nbytes / 1e9:.2f} GB"

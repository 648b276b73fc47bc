"""Reading and writing of locret, the limit and full attention, as shares of what the device can do."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.models import large_model, random_ids
from benchmarks.gpu.run import Row, free
from benchmarks.gpu.setting import Setting
from locret import get_policy
from locret.bench import Row as Timed
from locret.bench import compare, prefill_ratio
from locret.bench.line_up import line_up
from locret.bench.roofline import decode_seconds, roofline
from locret.plan import sizes_of
from locret.policies import Policy


def speed(setting: Setting, shape: str) -> Row:
    """Locret and limit in turns, then full attention once, which may run out of memory."""
    model, heads = large_model(setting, shape)
    ids = random_ids(setting.length, model.config.vocab_size)[0].tolist()

    def policy(name: str) -> Policy:
        return get_policy(name, **({"heads": heads} if name == "locret" else {}))

    def timed(names: list[str], repeats: int, new_tokens: int) -> list[Timed]:
        contestants = line_up(names, model, policy, setting.budget, new_tokens)
        warm_up = min(len(ids), 3 * setting.budget.chunk + setting.budget.local)
        return compare(contestants, ids, repeats=repeats, new_tokens=new_tokens, device=setting.device, warm_up=warm_up)

    rows = timed(["limit", "locret"], setting.repeats, setting.new_tokens)
    free(setting)
    full = timed(["full"], 1, setting.new_tokens)
    if not full[0].runs:  # an answer goes on from a copy of what it appends to; reading alone may fit
        free(setting)
        full = timed(["full"], 1, 1)
    over, sizes = prefill_ratio(rows[1], rows[0]), sizes_of(model.config)
    return {
        "passed": bool(rows[1].runs),
        "tokens": len(ids),
        "locret_over_limit": over.as_json() if over else None,
        "contestants": [
            _figures(row, setting, sizes, heads.beside(model).active if row.policy == "locret" else 0)
            for row in [*rows, *full]
        ],
    }


def _figures(row: Timed, setting: Setting, sizes: Any, heads: int) -> dict[str, Any]:
    """A contestant's medians, and the roofline over them; figures are None where memory ran out."""
    ideal = roofline(
        sizes, setting.machine, row.length, setting.budget, policy="full" if row.policy == "full" else "locret",
        element=setting.dtype.itemsize, heads=heads,
    )  # fmt: skip
    reading, rate, kv_bytes = row.median("prefill_seconds"), row.decode_rate, row.median("kv_bytes")
    token = decode_seconds(sizes, setting.machine, setting.dtype.itemsize, int(kv_bytes)) if kv_bytes else None
    return {
        "name": row.policy,
        "rounds": len(row.runs),
        "prefill_seconds": reading,
        "prefill_tokens_per_second": row.prefill_rate,
        "prefill_roofline_share": ideal.seconds / reading if reading else None,
        "decode_tokens_per_second": rate,
        "decode_roofline_share": token * rate if token and rate else None,
        "prefill_peak_bytes": row.median("prefill_peak_bytes"),
        "kv_bytes": kv_bytes,
    }

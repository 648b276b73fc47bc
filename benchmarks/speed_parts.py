"""What `benchmarks.speed` measures, one function a part; each gives a JSON-able object."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from statistics import median
from typing import Any

import locret
from benchmarks.speed_subject import CPU, Subject
from locret.bench import Engined, Ratio, Row, compare, prefill_ratio, ratio
from locret.bench.measure import run_once
from locret.bench.profile import profile_reading
from locret.bench.roofline import Roofline, measure_machine, roofline

PLAIN_POLICY = {"limit": "streaming_llm", "transformers": "full"}  # which arithmetic theirs is
USES_HEADS = ("locret",)


def prefill(subject: Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """Reading, beside the arithmetic that each needs: limit and locret in turns, then locret and its rivals in turns.

    Limit and locret differ by less than single readings on a busy machine do, so each may read several times a round.
    """
    rivals, repeats = subject.settings.get("against", settings["against"]), settings["repeats"]
    close = _read(subject, ["limit", "locret"], subject.length, repeats, subject.settings.get("turns", 1))
    far = _read(subject, ["locret", *rivals], subject.length, repeats) if rivals else {}
    rows = close | {name: far[name] for name in rivals}
    machine = measure_machine(CPU, subject.model.dtype)
    ideals = {
        name: roofline(
            subject.sizes, machine, subject.length, subject.budget,
            policy=PLAIN_POLICY.get(name, name), element=subject.model.dtype.itemsize,
            heads=subject.heads.beside(subject.model).active if name in USES_HEADS else 0,
        ) for name in rows
    }  # fmt: skip
    found: dict[str, Any] = {
        "machine_flops": machine.flops,
        "machine_bandwidth": machine.bandwidth,
        "rows": [{**_row(row, rows), **_ideal(ideals[row.policy], row)} for row in rows.values()],
        "locret_over_limit": _ratio(prefill_ratio(close["locret"], close["limit"])),
        "locret_over_limit_flops": ideals["locret"].flops / ideals["limit"].flops,
        **{f"{name}_over_locret": _ratio(prefill_ratio(far[name], far["locret"])) for name in rivals},
    }
    if measured := found.get("full_over_locret"):
        flops = ideals["full"].flops / ideals["locret"].flops
        found["full_over_locret_flops"] = flops
        found["flop_share"] = {what: measured[what] / flops for what in ("of_medians", "of_rounds")}
    return found


def decode(subject: Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """Writing after very many tokens, and after as many as are kept: the same units should take the same time.

    After many in static shapes as well.
    """
    budget, policy = locret.Budget(**settings["budget"]), subject.policy("locret")
    engine, static = (
        locret.Engine(subject.model, policy=policy, budget=budget, static=static) for static in (False, True)
    )
    many, few = (engine.prefill(subject.ids(seen)) for seen in (settings["seen"], budget.size + budget.local))
    ways = {"many": (engine, many), "few": (engine, few), "static": (static, many)}
    tokens, turns = settings["tokens"], settings["turns"]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(settings["repeats"] + 1):
        taken = dict.fromkeys(ways, 0.0)
        # Answers there and back: a machine that slows down steadily meets all alike.
        for way in turns * (*ways, *reversed(ways)):
            writer, session = ways[way]
            began = time.perf_counter()
            writer.generate(session, max_new_tokens=tokens)
            taken[way] += time.perf_counter() - began
        for way in ways if repeat else ():  # the first round warms up
            seconds[way].append(taken[way])
    rows = [
        {
            "seen": session.tokens_seen,
            "static": writer is static,
            "kept": session.cache.stored,
            "kv_bytes": session.kv_bytes,
            "seconds_all": seconds[way],
            "tokens_per_second": 2 * turns * (tokens - 1) / median(seconds[way]),
        }
        for way, (writer, session) in ways.items()
    ]
    return {
        "rows": rows,
        "many_over_few": ratio(seconds["many"], seconds["few"]).as_json(),
        "static_over_growing": ratio(seconds["static"], seconds["many"]).as_json(),
    }


def rivals(subject: Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """What each policy's scores cost: its reading over that of the limit."""
    rows = _read(subject, settings["contestants"], settings["length"], settings["repeats"], settings.get("turns", 1))
    over = {name: _ratio(prefill_ratio(row, rows["limit"])) for name, row in rows.items() if name != "limit"}
    return {"rows": [_row(row, rows) for row in rows.values()], "over_limit": over}


def profile(subject: Subject) -> dict[str, Any]:
    """Where the time of reading goes, of locret; the profiler itself takes some, so seconds are not compared."""
    (own,) = subject.contestants(["locret"])
    assert isinstance(own, Engined)
    run_once(own, subject.ids(min(subject.length, 2 * subject.budget.chunk)), 1, CPU)  # warms up
    return {"parts": [asdict(part) for part in profile_reading(own, subject.ids(subject.length), CPU)]}


def _read(subject: Subject, names: list[str], length: int, repeats: int, turns: int = 1) -> dict[str, Row]:
    def watch(name: str, length: int, repeat: int) -> None:
        print(f"  {subject.name}: {name}, {length} tokens, round {repeat} of {repeats}", file=sys.stderr, flush=True)

    warm_up = min(length, 2 * subject.budget.chunk + subject.budget.local)
    found = compare(
        subject.contestants(names), subject.ids(length), repeats=repeats, new_tokens=1, device=CPU, warm_up=warm_up,
        turns=turns, watch=watch,
    )  # fmt: skip
    return {row.policy: row for row in found}


def _row(row: Row, rows: dict[str, Row]) -> dict[str, Any]:
    kept = ("policy", "length", "prefill_seconds", "prefill_tokens_per_second", "kv_bytes", "repeats")
    return {name: value for name, value in row.as_json(list(rows.values())).items() if name in kept} | {
        "prefill_seconds_all": [run.prefill_seconds for run in row.runs]
    }


def _ideal(ideal: Roofline, row: Row) -> dict[str, Any]:
    seconds = row.median("prefill_seconds")
    share = ideal.seconds / seconds if seconds else None
    return {"flops": ideal.flops, "roofline_seconds": ideal.seconds, "roofline_share": share}


def _ratio(found: Ratio | None) -> dict[str, Any] | None:
    return found.as_json() if found else None

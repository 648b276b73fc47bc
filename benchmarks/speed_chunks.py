"""Limit and locret in turns chunk by chunk, with a timer on every step that the limit has not or has otherwise.

A machine that slows down for seconds slows both down, so the ratio of two readings is known to a few thousandths, where
readings one after another scatter by several hundredths. Each finds the other's units in the caches of the processor.
"""

from __future__ import annotations

import functools
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

import locret
from benchmarks.speed_subject import Subject
from locret.attention import use_attention
from locret.bench import ratio
from locret.bench.ring import RingCache, RingLayer
from locret.cache.cuts import Cuts
from locret.cache.dense import Dense
from locret.cache.layer import BudgetLayer
from locret.cache.plan import chunk_plan
from locret.models.families import decoder_of
from locret.policies.locret import Locret

LIMIT, LOCRET = "limit", "locret"
# What is timed inside a chunk. Scores and appending, where due moves are made, are parts of the update.
STEPS: dict[str, tuple[tuple[type, str], ...]] = {
    "update": ((BudgetLayer, "update"), (RingLayer, "update")),
    "scores": ((Locret, "score"),),
    "append": ((Dense, "append"),),
    "choice": ((Cuts, "carry_out"),),
}


@torch.no_grad()
def chunks(subject: Subject, settings: dict[str, Any]) -> dict[str, Any]:
    """Whole readings, the tail included, in rounds of as many as the model's entry says, after one that only warms up.

    Steps are medians over the chunks that begin and end with a full cache.
    """
    repeats, turns = settings["repeats"], subject.settings.get("turns", 1)
    seconds: dict[str, list[float]] = {LIMIT: [], LOCRET: []}
    steps: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in seconds}
    with use_attention(subject.model, "split"), timers() as passed:
        for repeat in range(repeats + 1):
            print(f"  {subject.name}: chunks, round {repeat} of {repeats}", file=sys.stderr, flush=True)
            found = [read(subject, turn, passed, steps if repeat else {}) for turn in range(turns if repeat else 1)]
            for name in seconds if repeat else ():
                seconds[name].append(sum(reading[name] for reading in found))
    return {
        "rows": [
            {
                "policy": name,
                "seconds_all": seconds[name],
                "milliseconds": {step: median(values) * 1e3 for step, values in steps[name].items()},
            }
            for name in seconds
        ],
        "chunks": len(steps[LIMIT]["chunk"]),
        "locret_over_limit": ratio(seconds[LOCRET], seconds[LIMIT]).as_json(),
    }


def read(
    subject: Subject, turn: int, passed: dict[str, float], steps: dict[str, dict[str, list[float]]]
) -> dict[str, float]:
    """One reading by each, chunk by chunk in turns: seconds of each; `steps` grows by the chunks of a full cache."""
    length, budget = subject.length, subject.budget
    decoder, ids = decoder_of(subject.model), torch.tensor([subject.ids(length)])
    caches: dict[str, Any] = {
        LIMIT: RingCache(subject.model.config, budget, budget.local),
        LOCRET: locret.BudgetCache(
            subject.model, policy=subject.policy(LOCRET), budget=budget, prompt_length=length
        ),
    }  # fmt: skip
    taken, done = dict.fromkeys(caches, 0.0), 0
    for number, piece in enumerate(chunk_plan(0, length, length, budget)):
        part, full = ids[:, done : done + piece], done >= budget.size and piece == budget.chunk
        if done == length - budget.local:
            caches[LIMIT].keep_from_here()
        done += piece
        for name in list(caches)[:: 1 if (number + turn) % 2 else -1]:
            passed.clear()
            began = time.perf_counter()
            decoder(input_ids=part, past_key_values=caches[name], use_cache=True)
            passed["chunk"] = time.perf_counter() - began
            taken[name] += passed["chunk"]
            for step in ("chunk", *STEPS) if full and steps else ():
                steps[name][step].append(passed.get(step, 0.0))
    return taken


@contextmanager
def timers() -> Iterator[dict[str, float]]:
    """Seconds that have passed in each step since they were cleared."""
    passed: dict[str, float] = defaultdict(float)

    def timed(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                passed[step] += time.perf_counter() - began

        return run

    with ExitStack() as stack:
        for step, methods in STEPS.items():
            for owner, method in methods:
                stack.enter_context(patch.object(owner, method, timed(step, getattr(owner, method))))
        yield passed

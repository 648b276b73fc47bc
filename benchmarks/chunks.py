"""What `locret` does and the limit does not, chunk by chunk: `python -m benchmarks.chunks`.

Both read one prompt in the same process, a chunk of it in turns, so that a machine that slows down for a second is slow
for both: their ratio is known to half a percent after three minutes, where readings as a whole (`benchmarks.speed`, by
which the bounds are judged) scatter by several. Steps are timed inside as well. Each reading finds the other's units in
the caches of the processor, which readings by themselves do not.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, stdev
from typing import Any
from unittest.mock import patch

import torch

import locret
from benchmarks.machine import describe_machine
from benchmarks.speed_subject import Subject, load_subject
from locret.allocator import hold_memory
from locret.attention import use_attention
from locret.bench.ring import RingCache, RingLayer
from locret.cache.cuts import Cuts
from locret.cache.dense import Dense
from locret.cache.layer import BudgetLayer
from locret.cache.plan import chunk_plan
from locret.files import write_text_whole
from locret.models.families import decoder_of
from locret.policies.locret import Locret

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "chunks.json"
LIMIT, LOCRET = "limit", "locret"
GROUPS = 10
# What is timed inside a chunk. Scores and appending, where due moves are made, are parts of the update.
STEPS: dict[str, tuple[tuple[type, str], ...]] = {
    "update": ((BudgetLayer, "update"), (RingLayer, "update")),
    "scores": ((Locret, "score"),),
    "append": ((Dense, "append"),),
    "choice": ((Cuts, "carry_out"),),
}
Seconds = dict[str, list[float]]


@torch.no_grad()
def measure(subject: Subject, rounds: int) -> dict[str, Any]:
    """Chunks whose cache is full before and after them, of so many readings by each, after one that is not counted."""
    policy, budget, length = subject.policy(LOCRET), subject.budget, subject.length
    new_cache: dict[str, Callable[[], Any]] = {
        LIMIT: lambda: RingCache(subject.model.config, budget, budget.local),
        LOCRET: lambda: locret.BudgetCache(subject.model, policy=policy, budget=budget, prompt_length=length),
    }
    decoder, ids = decoder_of(subject.model), torch.tensor([subject.ids(length)])
    seconds: dict[str, Seconds] = {name: defaultdict(list) for name in new_cache}
    body = chunk_plan(0, length, length, budget)[:-1]
    with use_attention(subject.model, "split"), timers() as passed:
        for turn in range(rounds + 1):
            caches, done = {name: make() for name, make in new_cache.items()}, 0
            for number, piece in enumerate(body):
                part, full = ids[:, done : done + piece], done >= budget.size + budget.chunk
                done += piece
                for name in list(caches)[:: 1 if (number + turn) % 2 else -1]:
                    passed.clear()
                    began = time.perf_counter()
                    decoder(input_ids=part, past_key_values=caches[name], use_cache=True)
                    passed["chunk"] = time.perf_counter() - began
                    if turn and full and piece == budget.chunk:
                        for step in ("chunk", *STEPS):
                            seconds[name][step].append(passed[step])
    return summary(seconds)


@contextmanager
def timers() -> Iterator[defaultdict[str, float]]:
    """Seconds that have passed in each step since they were cleared."""
    passed: defaultdict[str, float] = defaultdict(float)

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


def summary(seconds: dict[str, Seconds]) -> dict[str, Any]:
    """Medians in milliseconds of each step, and how the chunks compare; the standard error goes by tenths of them."""
    limit, own = seconds[LIMIT]["chunk"], seconds[LOCRET]["chunk"]
    groups = [sum(own[i::GROUPS]) / sum(limit[i::GROUPS]) for i in range(min(GROUPS, len(own)))]
    return {
        "chunks": len(limit),
        "milliseconds": {
            name: {step: round(median(values) * 1e3, 3) for step, values in steps.items()}
            for name, steps in seconds.items()
        },
        "locret_over_limit": {
            "of_sums": round(sum(own) / sum(limit), 4),
            "standard_error": round(stdev(groups) / len(groups) ** 0.5, 4),
            "of_pairs": round(median(a / b for a, b in zip(own, limit, strict=True)), 4),
            "of_medians": round(median(own) / median(limit), 4),
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin", help="one of the configuration")
    parser.add_argument("--rounds", type=int, default=20, help="readings by each")
    parser.add_argument("--config", type=Path, default=HERE / "speed.json")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(arguments)
    hold_memory()
    machine = describe_machine()
    subject = load_subject(args.model, json.loads(args.config.read_text(encoding="utf-8"))["models"])
    config = {"model": args.model, "rounds": args.rounds, "subject": subject.settings}
    found = {"config": config, "machine": machine, **measure(subject, args.rounds)}
    print(json.dumps(found, indent=1))
    write_text_whole(args.out, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

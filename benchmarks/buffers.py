"""Storage `dense` (buffers that are written in place) beside `dynamic` (new tensors): `python -m benchmarks.buffers`.

Both read and write with the built-in model in turns, in one process, so that a busy machine meets both alike. Medians
are reported. Peaks are of tensors, counted operation by operation in a reading of their own. `--parts` measures single
steps at the sizes of the built-in model and of a layer of larger ones: choosing what stays (by values, as on the CPU,
or without waiting for any, as on a device), an eviction, and the retaining head's first map on joined projections, on
each by itself, or folded with what makes them.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

import locret
from benchmarks.tensor_peak import TensorPeak
from locret.cache.fillings import HostFilling, QueuedFilling, filling
from locret.cache.keeping import fills_gaps
from locret.cache.room import Room
from locret.cache.storage import Storage, get_storage, in_place
from locret.files import write_text_whole
from locret.policies.selection import ascending, keep_mask, keep_mask_queued

RESULTS = Path(__file__).parent / "results" / "buffers.json"
STORAGES = ("dynamic", "dense")
CASES: dict[str, dict[str, Any]] = {
    "1024 + 1024": {"length": 16384, "size": 1024, "chunk": 1024, "positions": "true"},
    "2048 + 256": {"length": 16384, "size": 2048, "chunk": 256, "positions": "true"},
    "1024 + 1024, compact": {"length": 16384, "size": 1024, "chunk": 1024, "positions": "compact"},
    "2048 + 256, compact": {"length": 16384, "size": 2048, "chunk": 256, "positions": "compact"},
}
STEPS = {  # kv_heads, head_dim, size, chunk; then widths of q, of k and v, of the retaining head, of the hidden state
    "built-in": (2, 32, 1024, 1024, 256, 64, 256, 192),
    "Llama-3.1-8B layer": (8, 128, 16384, 1024, 4096, 1024, 1024, 4096),
    "Phi-3-mini layer": (32, 96, 6000, 3072, 3072, 3072, 1024, 3072),
}
NEW_TOKENS = 128


def engines(case: dict[str, Any]) -> dict[str, locret.Engine]:
    """An engine for each storage, on one model."""
    model, tokenizer, heads = locret.load_builtin()
    policy = locret.get_policy("locret", heads=heads)
    budget = locret.Budget(case["size"], case["chunk"], stabilizers=32, local=32, positions=case["positions"])
    return {name: locret.Engine(model, tokenizer, policy=policy, budget=budget, storage=name) for name in STORAGES}


def document(engine: locret.Engine, length: int) -> list[int]:
    """Tokens of the Python language reference."""
    from pydoc_data.topics import topics

    ids = engine.tokenizer("\n".join(topics[name] for name in sorted(topics)))["input_ids"]
    return list((ids * (length // len(ids) + 1))[:length])


def in_turns(rounds: int, runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of every run's seconds, after a round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()
            value = run()
            if turn:
                seconds[name].append(value)
    return {name: median(values) for name, values in seconds.items()}


def timed(work: Callable[[], Any]) -> float:
    """Seconds of `work`."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(case: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds of reading, tokens a second of writing, and the peak of tensors, for each storage."""
    pair = engines(case)
    ids = document(pair["dense"], case["length"])
    reading = in_turns(rounds, {name: lambda e=e: timed(lambda: e.prefill(ids)) for name, e in pair.items()})  # type: ignore[misc]
    sessions = {name: engine.prefill(ids) for name, engine in pair.items()}
    stops = {name: _unstopped(engine) for name, engine in pair.items()}
    writing = in_turns(
        rounds,
        {name: lambda n=name: stops[n](sessions[n]) for name in pair},  # type: ignore[misc]
    )
    row: dict[str, Any] = {"rounds": rounds}
    for name, engine in pair.items():
        heads: Any = engine.policy.heads.beside(engine.model)  # type: ignore[attr-defined]
        known = [*engine.model.parameters(), *engine.model.buffers(), *heads.parameters(), *heads.buffers()]
        with torch.no_grad(), TensorPeak(known) as count:
            engine.prefill(ids)
        row[name] = {
            "reading_seconds": round(reading[name], 4),
            "writing_tokens_per_second": round(NEW_TOKENS / writing[name], 1),
            "tensor_peak_bytes": count.peak,
            "kv_bytes": sessions[name].kv_bytes,
        }
    layer = sessions["dense"].cache.layers[0]
    row["fills_gaps"] = fills_gaps(layer.storage, layer.reading)
    return row


def _unstopped(engine: locret.Engine) -> Callable[[Any], float]:
    """Writes `NEW_TOKENS` tokens one by one, whatever they are; seconds."""

    @torch.no_grad()
    def write(session: Any) -> float:
        cache = session.fork().cache
        token = torch.zeros(1, 1, dtype=torch.long)

        def tokens() -> None:
            for _ in range(NEW_TOKENS):
                engine.model(input_ids=token, past_key_values=cache, use_cache=True)

        return timed(tokens)

    return write


@torch.no_grad()
def parts(rounds: int) -> dict[str, Any]:
    """Seconds of single steps."""
    found: dict[str, Any] = {}
    for name, (heads, dim, size, chunk, wide, narrow, width, hidden) in STEPS.items():
        scores = torch.rand(1, heads, size + chunk)
        ages, keep = scores.argsort(dim=-1).int(), keep_mask(scores, size)
        row = in_turns(
            rounds,
            {
                "choose, by values": lambda s=scores, n=size, a=ages: timed(  # type: ignore[misc]
                    lambda: HostFilling.of(keep_mask(s, n, 32, a)[None], n)
                ),
                "choose, queued": lambda s=scores, n=size, a=ages: timed(  # type: ignore[misc]
                    lambda: QueuedFilling.of(keep_mask_queued(s, n, 32, a)[None], n)
                ),
                "evict, new tensors": lambda a=(heads, dim, size, chunk), k=keep: _evict("dynamic", a, k, True),  # type: ignore[misc]
                "evict, moved together": lambda a=(heads, dim, size, chunk), k=keep: _evict("dense", a, k, True),  # type: ignore[misc]
                "evict, gaps filled": lambda a=(heads, dim, size, chunk), k=keep: _evict("dense", a, k, False),  # type: ignore[misc]
                "order of positions": lambda k=keep: timed(lambda: k.float().argsort(-1).argsort(-1)),  # type: ignore[misc]
            },
        )
        for dtype in (torch.float32, torch.bfloat16):
            weight = torch.randn(width, wide + 2 * narrow, dtype=dtype)
            given = tuple(torch.randn(chunk, columns, dtype=dtype) for columns in (wide, narrow, narrow))
            state, folded = torch.randn(chunk, hidden, dtype=dtype), torch.randn(width, hidden, dtype=dtype)
            row |= {
                f"fc1 {way}, {dtype}".replace("torch.", ""): seconds
                for way, seconds in in_turns(
                    rounds,
                    {
                        "joined": lambda w=weight, g=given: timed(lambda: linear(torch.cat(g, dim=-1), w)),  # type: ignore[misc]
                        "apart": lambda w=weight, g=given: timed(lambda: _apart(w, g)),  # type: ignore[misc]
                        "folded": lambda w=folded, h=state: timed(lambda: linear(h, w)),  # type: ignore[misc]
                    },
                ).items()
            }
        found[name] = {"rounds": rounds} | {step: round(1000 * seconds, 3) for step, seconds in row.items()}
    return found


def _evict(name: str, sizes: tuple[int, int, int, int], keep: Tensor, ordered: bool) -> float:
    """Cut a full storage, and read it, so that nothing is left to be done."""
    heads, dim, size, chunk = sizes
    storage: Storage = get_storage(name)()
    roomy = in_place(storage)
    storage = storage if roomy is None else roomy.with_room(Room(size + chunk, size + chunk))
    storage = storage.append(*torch.randn(2, 1, heads, size + chunk, dim))
    roomy = None
    began = time.perf_counter()
    storage = storage.evict(ascending(keep, size), keep.float()) if ordered else _filled(storage, keep, size)
    storage.read()
    return time.perf_counter() - began


def _filled(storage: Storage, keep: Tensor, size: int) -> Storage:
    roomy = in_place(storage)
    assert roomy is not None
    return roomy.fill(filling(keep[None], size).change(0))


def _apart(weight: Tensor, given: tuple[Tensor, ...]) -> Tensor:
    columns = weight.split([part.shape[-1] for part in given], dim=1)
    out = given[0] @ columns[0].T
    return out.addmm_(given[1], columns[1].T).addmm_(given[2], columns[2].T)


def main() -> None:
    """Measure what is asked for, print and save it; other results in the file stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", choices=sorted(CASES), default=sorted(CASES))
    parser.add_argument("--parts", action="store_true", help="single steps as well")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    about = {
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "configuration": {"cases": CASES, "steps": STEPS, "new_tokens": NEW_TOKENS},
    }
    rows = result.get("rows", {})
    for name in options.cases:
        rows[name] = measure(CASES[name], options.rounds)
        print(name, json.dumps(rows[name], indent=1), flush=True)
        _save(options.out, result | about | {"rows": rows})
    if options.parts:
        result["milliseconds"] = parts(options.rounds)
        print(json.dumps(result["milliseconds"], indent=1), flush=True)
        _save(options.out, result | about | {"rows": rows})


def _save(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text_whole(out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

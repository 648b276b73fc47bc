"""The planner's estimate beside measured peaks, one process each: `python -m benchmarks.plan`.

Small shapes of random weights read 8K tokens on the CPU. Three peaks are measured of what a process takes beyond the
interpreter and its libraries (a tiny model has been read before, so that these are warm):

- tensors: storages that are alive, counted operation by operation, with the weights. This is what is estimated.
- resident: the peak resident size. It adds what the allocator keeps of freed blocks, and buffers inside kernels.
- resident_returned: the same where the allocator returns every freed block above 64 KiB to the system at once
  (glibc's MALLOC_MMAP_THRESHOLD_), so the difference to `resident` is the allocator's.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from locret.files import write_text_whole

RESULTS = Path(__file__).parent / "results" / "plan.json"
BUDGET = {"size": 2048, "chunk": 1024, "stabilizers": 256, "local": 100, "positions": "true"}
LENGTH, WIDTH = 8192, 1024
CASES = [
    ("llama-60m", "locret", "true"),
    ("llama-150m", "locret", "true"),
    ("phi3-100m", "locret", "true"),
    ("llama-150m", "full", "true"),
    ("phi3-100m", "locret", "compact"),
    ("llama-60m", "h2o", "true"),
]
RETURNED = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10), "MALLOC_TRIM_THRESHOLD_": str(64 << 10)}


def measure(shape: str, policy_name: str, positions: str, count_tensors: bool) -> dict[str, Any]:
    """Read in this process; the estimate and what was measured, in bytes."""
    import torch

    import locret
    from benchmarks.tensor_peak import TensorPeak
    from locret.allocator import hold_memory
    from locret.bench import random_heads, random_model
    from locret.bench.memory import peak_bytes, reset_peak, resident
    from locret.plan import estimate, find_config, setting_of

    hold_memory()  # as the command line does; MALLOC_ variables go before it
    budget = locret.Budget(**{**BUDGET, "positions": positions})  # type: ignore[arg-type]
    device = torch.device("cpu")

    def engine_of(config: Any, width: int) -> tuple[Any, Any]:
        model = random_model(config, torch.float32, device)
        heads = random_heads(model, width) if policy_name == "locret" else None
        policy = locret.get_policy(policy_name, **({"heads": heads} if heads else {}))
        return locret.Engine(model, policy=policy, budget=budget), heads

    config = find_config(shape)
    small = find_config(shape)
    small.num_hidden_layers, small.vocab_size = 1, 64
    engine_of(small, 8)[0].prefill(list(range(64)) * 60)  # libraries allocate at their first use
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    reset_peak(device)
    before = resident("VmRSS")
    engine, heads = engine_of(config, WIDTH)
    ids = torch.randint(config.vocab_size, (LENGTH,), generator=torch.Generator().manual_seed(0))
    placed = heads.beside(engine.model) if heads else None  # folds them
    weights = [*engine.model.parameters(), *((*placed.parameters(), *placed.buffers()) if placed else ())]
    if count_tensors:
        with torch.no_grad(), TensorPeak([*weights, *engine.model.buffers()]) as count:
            session = engine.prefill(ids)
        measured = {"tensors": count.peak + sum(weight.nbytes for weight in weights)}
    else:
        session = engine.prefill(ids)
        measured = {"resident": peak_bytes(device) - before}
    needed = estimate(setting_of(config, policy=policy_name, width=WIDTH, cuda=False), LENGTH, budget)
    return {
        "shape": shape,
        "policy": policy_name,
        "positions": positions,
        "weights_bytes": needed.weights,
        "heads_bytes": needed.heads,
        "kv_bytes": needed.kv,
        "activation_bytes": needed.activations,
        "total_bytes": needed.total,
        "moment": needed.moment,
        "kv_bytes_measured": session.kv_bytes,
        **measured,
    }


def run(case: tuple[str, str, str], *flags: str, **variables: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.plan", "--one", *case, *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **variables})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure every case three times, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=3, metavar=("SHAPE", "POLICY", "POSITIONS"), help="measure here, print JSON")
    parser.add_argument("--tensors", action="store_true", help="with --one: count tensors")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, count_tensors=options.tensors)))
        return
    rows = []
    for case in CASES:
        row = run(case, "--tensors")
        row["resident"] = run(case)["resident"]
        row["resident_returned"] = run(case, **RETURNED)["resident"]
        for name in ("tensors", "resident", "resident_returned"):
            row[f"estimate_over_{name}"] = round(row["total_bytes"] / row[name], 4)
        rows.append(row)
        print({key: value for key, value in row.items() if key.startswith(("shape", "policy", "est"))}, flush=True)
    from locret.plan import SHAPES

    names = {shape for shape, _, _ in CASES}
    result = {
        "machine": platform.processor() or platform.machine(),
        "configuration": {
            "budget": BUDGET, "length": LENGTH, "width": WIDTH, "dtype": "float32",
            "threads": os.environ.get("OMP_NUM_THREADS", "all"), "returned": RETURNED,
            "shapes": {name: SHAPES[name] for name in sorted(names)},
        },
        "rows": rows,
    }  # fmt: skip
    write_text_whole(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Peak memory of reading short and long prompts, one process each: `python -m benchmarks.memory`.

The built-in model reads real text (the Python language reference, repeated as often as needed) with compact positions.
Every length is read in a process of its own, because the peak resident size never goes down. Loading has a peak of
its own that would hide a small one of reading, so on Linux the peak is also taken from the moment reading begins.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from locret.files import write_text_whole

RESULTS = Path(__file__).parent / "results" / "memory.json"
BUDGET = {"size": 1024, "chunk": 1024, "stabilizers": 64, "local": 64, "positions": "compact"}


STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    """`VmRSS` (resident now) or `VmHWM` (its peak since the last reset) of this process; 0 where there is no /proc."""
    if not STATUS.exists():
        return 0
    lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines[field].split()[0]) * 1024


def reset_peak() -> None:
    """Let the peak resident size start from what is resident now (Linux)."""
    if CLEAR_REFS.exists():
        CLEAR_REFS.write_text("5", encoding="utf-8")


def read(length: int, policy_name: str) -> dict[str, Any]:
    """Read `length` tokens in this process; peak resident bytes and bytes of KV."""
    from pydoc_data.topics import topics

    import torch

    import locret
    from locret.allocator import hold_memory
    from locret.engine.memory import peak_memory_bytes
    from locret.policies import policy_options

    hold_memory()  # as the command line does
    model, tokenizer, heads = locret.load_builtin()
    policy = locret.get_policy(policy_name, **({"heads": heads} if "heads" in policy_options(policy_name) else {}))
    budget = locret.Budget(**BUDGET) if policy.evicts else locret.Budget(**{**BUDGET, "size": length})
    text = tokenizer("\n".join(topics[name] for name in sorted(topics)))["input_ids"]
    # One tensor, which the engine takes as it is: lists of the prompt would be counted with the reading.
    ids = torch.tensor(text).repeat(length // len(text) + 1)[:length]
    engine = locret.Engine(model, tokenizer, policy=policy, budget=budget)
    engine.prefill(ids[:64])  # libraries allocate at their first use
    reset_peak()
    before = resident("VmRSS")
    session = engine.prefill(ids)
    return {
        "policy": policy_name,
        "length": session.tokens_seen,
        "peak_memory_bytes": peak_memory_bytes([model.device]),
        "reading_peak_bytes": resident("VmHWM"),
        "reading_growth_bytes": resident("VmHWM") - before,
        "kv_bytes": session.kv_bytes,
    }


def main() -> None:
    """Read every length with every policy in its own process, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768, 131072])
    parser.add_argument("--policies", nargs="+", default=["locret", "streaming_llm"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("LENGTH", "POLICY"), help="read in this process, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(read(int(options.one[0]), options.one[1])))
        return
    rows = []
    for policy in options.policies:
        for length in options.lengths:
            command = [sys.executable, "-m", "benchmarks.memory", "--one", str(length), policy]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(rows[-1], flush=True)
    ratios: dict[str, dict[str, float]] = {}
    for policy in options.policies:
        of = [row for row in rows if row["policy"] == policy]
        ratios[policy] = {
            what: round(of[-1][what] / max(of[0][what], 1), 4)
            for what in ("peak_memory_bytes", "reading_peak_bytes", "kv_bytes")
        }
        print(f"{policy}: {options.lengths[-1]} tokens over {options.lengths[0]}: {ratios[policy]}")
    result = {"machine": platform.processor() or platform.machine(), "budget": BUDGET, "rows": rows, "ratios": ratios}
    write_text_whole(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

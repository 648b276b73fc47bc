"""Peak memory of reading short and long prompts, one process each: `python -m benchmarks.memory`.

The built-in model reads real text (the Python language reference, repeated as often as needed) with compact positions.
Every length is read in a process of its own, because a process' peak resident size never goes down.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "memory.json"
BUDGET = {"size": 1024, "chunk": 1024, "stabilizers": 64, "local": 64, "positions": "compact"}


def read(length: int, policy_name: str) -> dict[str, Any]:
    """Read `length` tokens in this process; peak resident bytes, bytes of KV, seconds."""
    from pydoc_data.topics import topics

    import locret
    from locret.engine.memory import peak_memory_bytes

    model, tokenizer, heads = locret.load_builtin()
    policy = locret.get_policy(policy_name, **({"heads": heads} if policy_name == "locret" else {}))
    budget = locret.Budget(**BUDGET) if policy.evicts else locret.Budget(**{**BUDGET, "size": length})
    text = tokenizer("\n".join(topics[name] for name in sorted(topics)))["input_ids"]
    ids = (text * (length // len(text) + 1))[:length]
    engine = locret.Engine(model, tokenizer, policy=policy, budget=budget)
    loaded = peak_memory_bytes(model.device)
    session = engine.prefill(ids)
    return {
        "policy": policy_name,
        "length": session.tokens_seen,
        "peak_memory_bytes": peak_memory_bytes(model.device),
        "loaded_memory_bytes": loaded,
        "kv_bytes": session.kv_bytes,
        "prefill_seconds": round(session.prefill_seconds, 2),
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
    ratios = {}
    for policy in options.policies:
        peaks = [row["peak_memory_bytes"] for row in rows if row["policy"] == policy]
        ratios[policy] = round(peaks[-1] / peaks[0], 4)
        print(f"{policy}: peak at {options.lengths[-1]} / peak at {options.lengths[0]} = {ratios[policy]}")
    result = {"machine": platform.processor() or platform.machine(), "budget": BUDGET, "rows": rows, "ratios": ratios}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

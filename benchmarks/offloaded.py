"""Units off the device: what stays on it when the prompt grows. `python -m benchmarks.offloaded`.

A tiny model with random weights reads random tokens on the CPU, one process a measurement. The CPU plays a device of
its own here: what a storage puts into host memory is not counted, and comes back as a copy, which is. Files are files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from locret.files import write_text_whole

RESULTS = Path(__file__).parent / "results" / "offloaded.json"
METHODS = ["locret+offloaded", "locret+disk", "streaming_llm+recall", "infllm", "full+offloaded", "full+disk"]
LENGTHS = [16384, 131072]
BUDGET = {"size": 1024, "chunk": 1024, "stabilizers": 64, "local": 64}
COMPACT = ("offloaded", "disk")  # storages that can be read beyond the window, when the policy evicts
MODEL = {
    "vocab_size": 256, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 262144, "initializer_range": 0.3,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Units in host memory, as a model on another device sees them: bytes that no tensor of this process shows."""

    keys: Any
    values: Any
    shapes: tuple[torch.Size, torch.Size]
    dtype: torch.dtype
    device: None = None

    @property
    def units(self) -> int:
        """Units per KV head."""
        return self.shapes[0][-2]

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return sum(shape.numel() for shape in self.shapes) * self.dtype.itemsize

    def fetch(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Copies."""
        parts = (torch.from_numpy(part).clone() for part in (self.keys, self.values))
        keys, values = (part.view(self.dtype).view(shape) for part, shape in zip(parts, self.shapes, strict=True))
        return keys, values


class OtherHost:
    """Where `HostMemory` would put units."""

    def put(self, keys: Tensor, values: Tensor, device: torch.device) -> Elsewhere:
        """Copy units out of torch's sight."""
        raw = (part.contiguous().view(-1).view(torch.uint8).numpy().copy() for part in (keys, values))
        return Elsewhere(*raw, (keys.shape, values.shape), keys.dtype)


def read(method_name: str, length: int) -> dict[str, Any]:
    """Read `length` tokens in this process; bytes on the device and elsewhere."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    import locret
    from benchmarks.tensor_peak import TensorPeak
    from locret.cache import host_blocks, make_infllm
    from locret.cache.offloaded import Offloaded
    from locret.engine import parse
    from locret.policies import policy_options

    host_blocks.HostMemory = OtherHost  # type: ignore[misc, assignment]
    method = parse(method_name)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**MODEL)).eval()
    heads = locret.RetainingHeads.from_config(model.config, width=16)
    options = {"heads": heads} if "heads" in policy_options(method.policy) else {}
    positions = "compact" if method.storage in COMPACT and method.policy != "full" else "true"
    makers = {"offloaded": lambda: Offloaded(OtherHost()), "infllm": make_infllm(local=1024)}
    engine = locret.Engine(
        model,
        policy=locret.get_policy(method.policy, **options),
        budget=locret.Budget(**BUDGET, positions=positions),
        storage=makers.get(method.storage, method.storage),
    )
    ids = torch.randint(MODEL["vocab_size"], (length,))
    engine.prefill(ids[:64])
    began = time.process_time()
    placed = heads.beside(model)
    known = [*model.parameters(), *model.buffers(), *placed.parameters(), *placed.buffers(), ids]
    with torch.no_grad(), TensorPeak(known) as count:
        session = engine.prefill(ids)
    return {
        "method": method.name, "positions": positions, "length": session.tokens_seen,
        "kv_bytes": session.kv_bytes, "offloaded_bytes": session.cache.offloaded_bytes,
        "device_kv_bytes": session.kv_bytes - session.cache.offloaded_bytes,
        "device_tensors_peak_bytes": count.peak, "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def main() -> None:
    """Read every length with every method in its own process, print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "LENGTH"), help="read in this process, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(read(options.one[0], int(options.one[1]))))
        return
    rows = []
    for method in options.methods:
        for length in options.lengths:
            command = [sys.executable, "-m", "benchmarks.offloaded", "--one", method, str(length)]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
            print(rows[-1], flush=True)
    result = {"model": MODEL, "budget": BUDGET, "rows": rows}
    write_text_whole(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

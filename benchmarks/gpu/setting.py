"""What every check needs to know: the device, the sizes, and what the device can do at best."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from locret import Budget
from locret.bench.roofline import Machine, measure_machine
from locret.models.families import shapes_of
from locret.plan import find_config

SHAPES = ("llama-3.1-8b", "phi-3-mini-128k")
# Phi-3-mini-128K's settings in the paper, for both shapes.
BUDGET = Budget(size=6000, chunk=3072, stabilizers=2500, local=100)
TINY_BUDGET = Budget(size=64, chunk=32, stabilizers=8, local=4)


@dataclass(frozen=True)
class Setting:
    """The setting of a run.

    Attributes:
        device: where everything is measured.
        machine: its peaks.
        tiny: shapes are cut down to run anywhere in seconds; their figures mean nothing.
        dtype: of the large models.
        length: tokens that they read.
        short: tokens read before decoding is timed, more than the budget.
        new_tokens: tokens of an answer.
        width: of their retaining heads.
        budget: how they read.
        repeats: rounds of a comparison.
        cap_bytes: memory that the capped checks may take.
    """

    device: torch.device
    machine: Machine
    tiny: bool = False
    dtype: torch.dtype = torch.bfloat16
    length: int = 131072 - 64
    short: int = 12288
    new_tokens: int = 64
    width: int = 1024
    budget: Budget = BUDGET
    repeats: int = 3
    cap_bytes: int = 24 * 1000**3

    @property
    def cuda(self) -> bool:
        """Whether this is an accelerator."""
        return self.device.type == "cuda"

    def config(self, shape: str) -> Any:
        """The configuration of a shape, or of a tiny model of the same family."""
        config = find_config(shape)
        if not self.tiny:
            return config
        shapes = shapes_of(config)
        grouped = shapes.kv_heads < shapes.q_heads
        config.hidden_size, config.intermediate_size = 4 * shapes.head_dim, 64
        config.num_hidden_layers, config.vocab_size = 2, 97
        config.num_attention_heads, config.num_key_value_heads = 4, 2 if grouped else 4
        config.bos_token_id = config.eos_token_id = config.pad_token_id = None
        return config

    def as_json(self) -> dict[str, Any]:
        """What stands beside the results."""
        return {
            "tiny": self.tiny,
            "dtype": str(self.dtype).removeprefix("torch."),
            "length": self.length,
            "short": self.short,
            "new_tokens": self.new_tokens,
            "width": self.width,
            "budget": asdict(self.budget),
            "repeats": self.repeats,
            "cap_bytes": self.cap_bytes,
        }


def make_setting(device: str, tiny: bool) -> Setting:
    """The setting for a device, whose peaks are measured first."""
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", torch.cuda.current_device())
    setting = Setting(place, measure_machine(place, torch.bfloat16))
    if not tiny:
        return setting
    return replace(setting, tiny=True, length=300, short=200, new_tokens=6, width=8, budget=TINY_BUDGET, repeats=2)

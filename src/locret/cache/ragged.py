"""Prompts of different lengths in one batch: each is read alone, and then they go on as one padded batch.

Chunks of a padded batch would begin at other tokens than those of the prompt alone, so other units would be evicted.
Reading is bound by arithmetic, and padding is not read at all, so one after another costs less than all together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache

REPLAY = "locret_replay"


@dataclass(frozen=True)
class Replay:
    """What a forward pass is to return: the rows' last hidden states [batch, 1, width], and the cache they are in."""

    hidden: Tensor
    cache: BudgetCache


def read_rows(decoder: nn.Module, cache: BudgetCache, kwargs: dict[str, Any], pads: Tensor) -> dict[str, Any]:
    """Read every row of a padded batch into `cache`.

    Returns:
        Arguments for the pass under way, which cannot be called off: one token a row, without consequence. `replayed`
        puts the rows' own hidden states into its output.
    """
    cache.settle_rope(_length(kwargs) - int(pads.min()))
    rows, hidden = [], []
    for row, pad in enumerate(pads.tolist()):
        own = cache.fork()
        if own.reading.prompt_length is not None:
            own.reading.prompt_length -= pad
        output = decoder(**_row(kwargs, row, pad), past_key_values=own)
        hidden.append(output.last_hidden_state[:, -1:])
        rows.append(own)
    cache.reading.under_way = True
    cache.stack(rows, pads)
    cache.reading.under_way = False
    scratch = DynamicCache()
    setattr(scratch, REPLAY, Replay(torch.cat(hidden), cache))
    last = {name: kwargs[name][:, -1:] for name in ("input_ids", "inputs_embeds") if kwargs.get(name) is not None}
    return {**kwargs, **last, "attention_mask": None, "position_ids": None, "past_key_values": scratch}


def replayed(cache: Any, output: Any) -> Any:
    """The output with the hidden states of `read_rows`, where the pass was one of its; None for any other pass."""
    replay: Replay | None = getattr(cache, REPLAY, None)
    if replay is None or output is None:
        return None
    output.last_hidden_state, output.past_key_values = replay.hidden, replay.cache
    return output


def _length(kwargs: dict[str, Any]) -> int:
    inputs = kwargs["inputs_embeds"] if kwargs.get("input_ids") is None else kwargs["input_ids"]
    return int(inputs.shape[1])


def _row(kwargs: dict[str, Any], row: int, pad: int) -> dict[str, Any]:
    """The arguments for one row without its padding."""
    own = {**kwargs, "attention_mask": None}
    del own["past_key_values"]
    for name in ("input_ids", "inputs_embeds"):
        if own.get(name) is not None:
            own[name] = own[name][row : row + 1, pad:]
    if own.get("position_ids") is not None:
        positions = own["position_ids"]
        own["position_ids"] = positions[row if len(positions) > 1 else 0][None, pad:]
    return own

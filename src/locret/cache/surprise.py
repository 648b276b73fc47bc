"""How unexpected each token of a forward pass was: -log p(x_t | x_<t), for policies that score by it (SirLLM)."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from locret.errors import LocretError
from locret.models.families import decoder_of, text_config

TOKENS_AT_ONCE = 256  # logits of so many tokens are in memory at a time

_models: WeakKeyDictionary[nn.Module, ref[nn.Module]] = WeakKeyDictionary()


def note_output_layer(model: nn.Module) -> None:
    """Remember which language model a decoder belongs to."""
    _models[decoder_of(model)] = ref(model)


@torch.no_grad()
def surprise_of(decoder: nn.Module, hidden: Tensor, ids: Tensor | None) -> Tensor:
    """-log p of every token of a pass, fp32 [batch, tokens]; the first has no prediction and gets the largest.

    Args:
        decoder: the stack of layers that the pass went through.
        hidden: its output, [batch, tokens, width].
        ids: the tokens, [batch, tokens].

    Raises:
        LocretError: the pass had embeddings in place of tokens.
    """
    model: Any = _models[decoder]()
    if ids is None:
        raise LocretError("a policy that scores by token entropy needs input_ids: give token ids, not inputs_embeds")
    output_layer = model.get_output_embeddings()
    scaling = getattr(text_config(model.config), "logits_scaling", 1.0)  # Granite divides its logits
    parts = []
    for start in range(0, ids.shape[1] - 1, TOKENS_AT_ONCE):
        end = min(start + TOKENS_AT_ONCE, ids.shape[1] - 1)
        logits = output_layer(hidden[:, start:end]).float() / scaling
        wanted = ids[:, start + 1 : end + 1, None].to(logits.device)
        parts.append(logits.logsumexp(dim=-1) - logits.gather(-1, wanted)[..., 0])
    if not parts:
        return hidden.new_full(ids.shape, torch.inf, dtype=torch.float32)
    later = torch.cat(parts, dim=-1)  # [batch, tokens - 1]
    return torch.cat([later.amax(dim=-1, keepdim=True), later], dim=-1)

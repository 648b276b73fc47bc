"""What a forward pass is asked for besides the last piece's logits: refused where the pass is read in pieces.

A long pass gives hidden states of its last piece only, as those of all pieces would grow with the prompt. Labels and
`logits_to_keep` are arguments of the whole model, which the decoder is not told of, so they are looked at before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from locret.cache.passes import padding_of
from locret.errors import LocretError

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache

LAYERWISE = ("output_hidden_states", "output_attentions")


def check_outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A pre-hook of the whole model.

    Raises:
        LocretError: outputs of tokens are wanted that a pass read in pieces does not give.
    """
    cache: Any = kwargs.get("past_key_values")
    if not getattr(cache, "is_budgeted", False):
        return
    keep = kwargs.get("logits_to_keep", 0)
    chosen = isinstance(keep, Tensor)
    wanted = [name for name in LAYERWISE if kwargs.get(name)]
    if kwargs.get("labels") is not None:
        wanted.append("labels")
    if chosen or keep > 1:
        wanted.append("logits_to_keep")
    if not wanted:
        return
    given = next((tokens for tokens in (*args[:1], kwargs.get("input_ids")) if tokens is not None), None)
    inputs = kwargs["inputs_embeds"] if given is None else given
    length, last = inputs.shape[1], last_piece(cache, inputs, kwargs.get("attention_mask"))
    if last == length or (wanted == ["logits_to_keep"] and not chosen and keep <= last):
        return
    raise LocretError(
        f"{wanted[0]} asks for more than the last {last} of {length} tokens, and a pass of more than a chunk gives no "
        f"others: leave it out, or give passes of at most budget.chunk = {cache.budget.chunk} tokens"
    )


def last_piece(cache: BudgetCache, inputs: Tensor, mask: Tensor | None) -> int:
    """For how many of its last tokens a pass will give hidden states; the cache stays as it is."""
    length, pads = inputs.shape[1], padding_of(mask)
    if pads is not None and cache.tokens_seen == 0 and length - int(pads.min()) > cache.budget.chunk:
        return 1  # rows are read one by one
    return cache.planned(length)[0][-1]

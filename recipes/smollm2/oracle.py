"""The oracle of the exhibit: what a second pass that really repeats the text would keep (KVzip, arXiv 2505.23416).

The model reads the document, a request to repeat it, and the document again; the score of a unit is the largest
attention probability that it receives from the repetition, over queries and the query heads of its group. No one-pass
policy can know this, so it says what there is left to learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from locret.attention.observe import observe_attention
from locret.eval.haystack import plain_ids
from locret.models.families import decoder_of
from locret.policies.base import Units
from locret.train.labels import attention_labels

REQUEST = "\n\nRepeat the text above word for word.<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True)
class Given:
    """Scores that are known beforehand.

    Attributes:
        scores: [layers, kv_heads, tokens].
    """

    scores: Tensor
    name: ClassVar[str] = "oracle"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True

    def check(self, model: nn.Module) -> None:
        """Works with the model that the scores are of."""

    def score(self, units: Units) -> Tensor:
        """Look the new units up; what stands behind the document is never evicted."""
        at = units.new_positions.long()  # [1, kv_heads, new]
        known = self.scores[units.layer][None].to(at.device)
        found = known.gather(-1, at.clamp(max=known.shape[-1] - 1))
        return units.append(found.masked_fill(at >= known.shape[-1], torch.inf))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores


@torch.no_grad()
def oracle(model: Any, tokenizer: Any, ids: tuple[int, ...], head: int) -> Given:
    """The oracle for a document.

    Args:
        model, tokenizer: of the exhibit.
        ids: what is read: the beginning of the chat, and the document.
        head: how many of the first ids are no part of the document.
    """
    again = [*ids, *plain_ids(tokenizer, REQUEST), *ids[head:]]
    rows = torch.arange(len(again) - len(ids) + head - 1, len(again))  # from the token that predicts the first
    found: list[Tensor] = []

    def observe(layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        found.append(attention_labels(query[0], key[0], rows, len(ids), scaling, "softmax"))

    with observe_attention(model, observe):
        decoder_of(model)(input_ids=torch.tensor([again]), use_cache=False)
    return Given(torch.stack(found))

"""Locret-Q: retaining heads, and a question that is known before the document is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, pad

from locret.errors import LocretError
from locret.models.heads import RetainingHeads
from locret.policies.base import Units, register_policy
from locret.policies.locret import Locret
from locret.policies.statistics import masked_logits
from locret.values import check_whole


@register_policy
@dataclass(frozen=True)
class LocretQ:
    """CIS + weight · std(CIS) · z(r): Locret with a question that stands before the document.

    The second version of Locret's paper (arXiv 2410.01805) names a query-aware variant without publishing code; this
    is a design of our own. When the document is read, the question's queries are gone, but its keys are stored, and
    tokens of the document look back at them. So the relevance r of a new unit is what its own query pays to the
    question, the largest over the question's tokens and the query heads of the group,

        a(t) = max over heads h, question tokens j of log softmax(q_{h,t} K / √d)_j,    r(t) = max of a(t-s+1 .. t),

    where the last s = `spread` tokens lend a unit their relevance, because what is asked for stands behind the words
    that the question shares with it. The prompt's very first token is an attention sink: it counts as no part of the
    question. z standardises r over the document's tokens of one pass, in every KV head, and std(CIS) is over the same
    tokens, so that `weight` means the same in every head. It follows that scores depend on how a prompt is chunked
    (Locret's own do not) and that a lone token, one of the answer, gets its plain CIS.

    The question's units are pinned, as their keys are needed: they take up a part of the budget. Without a question, or
    with weight 0, this is Locret. A policy is made for one question: `asked`.

    Attributes:
        heads: the trained heads of the model that is used.
        question: how many tokens at the start of the prompt belong to the question, its very first token included.
        weight: of the question, in standard deviations of the CIS.
        spread: how many tokens share the relevance of the first of them, 1 for none.
    """

    heads: RetainingHeads
    question: int = 0
    weight: float = 1.0
    spread: int = 16
    name: ClassVar[str] = "locret_q"
    evicts: ClassVar[bool] = True
    scores_after_pass: ClassVar[bool] = False
    any_order: ClassVar[bool] = True  # the question is pinned, so its units never leave their places

    def __post_init__(self) -> None:
        check_whole("question", self.question, 0)
        check_whole("spread", self.spread, 1)

    def asked(self, tokens: int) -> LocretQ:
        """For another question: see `QueryAware`."""
        return replace(self, question=tokens)

    def check(self, model: nn.Module) -> None:
        """Refuse heads of another model."""
        self.heads.check_fits(model)

    def beside(self, model: nn.Module) -> LocretQ:
        """With each head where its layer is."""
        return replace(self, heads=self.heads.beside(model))

    def score(self, units: Units) -> Tensor:
        """Score the new units; the stored ones keep theirs.

        Raises:
            LocretError: the model's hooks are off, or the budget has no room for the question.
        """
        scores = Locret(self.heads).score(units)
        if self.question < 2 or self.weight == 0:
            return scores
        own = scores[..., units.scores.shape[-1] :]
        document = units.new_positions >= self.question
        relevance = self._relevance(units)
        (mean, deviation), (_, scale) = _moments(relevance, document), _moments(own, document)
        steered = own + self.weight * scale * (relevance - mean) / deviation.clamp(min=1e-6)
        # What is no part of the document is the question, or padding, which the cache takes care of.
        return units.append(torch.where(document, steered, torch.inf))

    def rank(self, scores: Tensor, positions: Tensor, size: int) -> Tensor:
        """By score alone."""
        return scores

    @torch.no_grad()
    def _relevance(self, units: Units) -> Tensor:
        """The largest log attention that new units, and those shortly before, pay to the question.

        Returns:
            [batch, kv_heads, new]; of no meaning for the question itself.
        """
        at = self._question_units(units)[:, :, None, None]  # [batch, kv_heads, 1, 1, question - 1]
        blocks = []
        for logits, _ in masked_logits(units):
            paid = logits.gather(-1, at.expand(*logits.shape[:-1], -1)).amax(dim=-1) - logits.logsumexp(dim=-1)
            blocks.append(paid.amax(dim=2))  # [batch, kv_heads, block]
        paid = torch.cat(blocks, dim=-1)
        # The question is no part of the document: nothing is lent across its end.
        paid = paid.masked_fill(units.new_positions < self.question, -torch.inf)
        return max_pool1d(pad(paid, (self.spread - 1, 0), value=-torch.inf), self.spread, stride=1)

    def _question_units(self, units: Units) -> Tensor:
        """Where the question's units are, but for the first: [batch, kv_heads, question - 1].

        Raises:
            LocretError: some were evicted, as the budget is too small for them.
        """
        expected = torch.arange(1, self.question, device=units.positions.device)
        padding = (units.positions < 0).sum(dim=-1, keepdim=True)  # [batch, kv_heads, 1]
        at = (padding + expected).clamp(max=units.positions.shape[-1] - 1)
        there = (units.positions.gather(-1, at) == expected).all(dim=-1)
        if not (there | (units.new_positions[..., -1] < self.question)).all():
            raise LocretError(
                f"the budget has no room for the {self.question} tokens of the question, the stabilizers and more: "
                "raise the size"
            )
        return at


def _moments(values: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the tokens of `where`, 0 if there are none: [batch, kv_heads, 1] each."""
    count = where.sum(dim=-1, keepdim=True).clamp(min=1)
    mean = values.masked_fill(~where, 0.0).sum(dim=-1, keepdim=True) / count
    variance = (values - mean).masked_fill(~where, 0.0).square().sum(dim=-1, keepdim=True) / count
    return mean, variance.sqrt()

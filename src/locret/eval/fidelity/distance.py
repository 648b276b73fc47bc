"""How far predictions are from those of full attention, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locret.errors import LocretError
from locret.eval.fidelity.continuations import Continuation
from locret.models.logits import check_logits

ROWS = 16  # compared at once, so that memory is bounded by so many rows of the vocabulary in fp64


@dataclass(frozen=True, slots=True)
class Distances:
    """Of every measured token; on the CPU, figures in fp64.

    Attributes:
        kl: [measured], nats: KL divergence of the prediction from full attention's, KL(full || policy).
        agreement: [measured], 1 where both put the same token first, else 0.
        nll: [measured], nats: negative log-probability of the token itself.
        full_nll: [measured], the same under full attention.
        top: [measured], the token that is put first.
    """

    kl: Tensor
    agreement: Tensor
    nll: Tensor
    full_nll: Tensor
    top: Tensor


def distances(
    logits: Tensor, full: Tensor, targets: Sequence[int] | Tensor, measured: Sequence[bool] | None = None
) -> Distances:
    """Compare predictions with those of full attention.

    Args:
        logits, full: [tokens, vocab], any float type, that predict `targets`.
        targets: [tokens], the tokens that were forced.
        measured: [tokens], which of them count; None for all.

    Raises:
        LocretError: the shapes do not fit, or predictions are no numbers.
    """
    goal = torch.as_tensor(targets)
    if logits.shape != full.shape or logits.dim() != 2 or len(logits) != len(goal):
        raise LocretError(
            f"logits are {tuple(logits.shape)}, full attention's {tuple(full.shape)} for {len(goal)} tokens: "
            "give [tokens, vocab] twice"
        )
    counted = torch.arange(len(goal)) if measured is None else torch.as_tensor(measured).nonzero()[:, 0]
    parts = [_compared(logits, full, goal, rows) for rows in counted.split(ROWS)]
    return Distances(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _compared(logits: Tensor, full: Tensor, goal: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    own, reference = logits[rows.to(logits.device)], full[rows.to(full.device)]
    for side in (own, reference):
        check_logits(side)
    mine = own.double().log_softmax(-1)  # [rows, vocab]
    true = reference.to(mine).log_softmax(-1)
    token = goal[rows][:, None].to(mine.device)
    kl = (true.exp() * (true - mine).nan_to_num()).sum(-1).clamp(min=0)  # a token ruled out by both is no difference
    top = mine.argmax(-1)
    agreement = (top == true.argmax(-1)).double()
    nll, full_nll = (-side.gather(-1, token)[:, 0] for side in (mine, true))
    return tuple(column.cpu() for column in (kl, agreement, nll, full_nll, top))


def measured_logits(pieces: Iterable[Tensor], continuation: Continuation) -> Tensor:
    """The rows that predict measured tokens, [measured, vocab] fp32 on the CPU, out of all rows piece by piece.

    Raises:
        LocretError: there are more or fewer rows than tokens.
    """
    measured, kept, done = torch.tensor(continuation.measured), [], 0
    for piece in pieces:
        own = measured[done : done + len(piece)]
        kept.append(piece[: len(own)][own.to(piece.device)].float().cpu())
        done += len(piece)
    if done != len(measured):
        raise LocretError(f"{done} rows of logits were given for {len(measured)} tokens: score all of the continuation")
    return torch.cat(kept)

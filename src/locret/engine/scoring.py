"""Teacher-forced scoring: what would have been predicted before each token of an answer that is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from locret.attention.select import use_attention
from locret.cache.plan import DECODED_AT_ONCE
from locret.engine.session import Session
from locret.models.logits import check_logits
from locret.models.placement import input_device


def forced_logits(model: Any, attention: str | None, session: Session, ids: Tensor) -> Iterator[Tensor]:
    """The logits that predict each of the given tokens, piece by piece.

    The tokens are read as an answer is: nothing of them is evicted, unless the budget says so for answers
    (`decode_budget`), and then they are read one at a time. Otherwise a pass reads as many as a cache takes for an
    answer, so that no more than so many rows of the vocabulary are held at once.

    Args:
        model: the language model.
        attention: registered attention to compute with; None keeps the model's own.
        session: what has been read, nothing pending; it stays as it is.
        ids: [1, tokens] on the CPU.

    Yields:
        [piece, vocab] fp32 on the model's device; the first row is `session.logits`.

    Raises:
        LocretError: the tokens do not fit the model's window, or the model's predictions are no numbers.
    """
    cache = session.cache.fork()
    cache.assisted = True  # passes of several tokens are an answer's: no room is made for them as for another turn's
    cache.check_window(0, answer=ids.shape[1])
    check_logits(session.logits)
    yield session.logits[None]
    at_once = 1 if cache.budget.decode_budget is not None else min(DECODED_AT_ONCE, cache.budget.chunk)
    read = ids[:, :-1]  # nothing is predicted after the last one
    for piece in read.split(at_once, dim=-1) if read.shape[1] else ():
        with torch.no_grad(), use_attention(model, attention):
            output = model(input_ids=piece.to(input_device(model)), past_key_values=cache, use_cache=True)
        logits = output.logits[0].float()
        check_logits(logits)
        yield logits

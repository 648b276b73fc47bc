"""Whether tokens fit the model's window, worked out before any of them is read: a refusal halfway loses the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locret.cache.plan import Stage, chunk_plan, stage_of
from locret.errors import LocretError

if TYPE_CHECKING:
    from locret.cache.budget_cache import BudgetCache


def check_window(cache: BudgetCache, length: int, later: int, answer: int) -> None:
    """Refuse tokens that the model has no positions for: see `BudgetCache.check_window`.

    Raises:
        LocretError: their positions would go past the model's window.
    """
    if cache.budget.positions == "true":
        _check_true(cache, length + later, answer)
    else:
        _check_compact(cache, length, later, answer)


def _check_true(cache: BudgetCache, length: int, answer: int) -> None:
    """Every token has a position of its own, but for the last one of an answer, which is not read."""
    read = cache.tokens_seen + length
    if read + max(answer - 1, 0) <= cache.window:
        return
    answers = read <= cache.window  # else it does not help to write less
    written = f" and an answer of up to {answer}" if answers else ""
    shorter = "allow a shorter answer (max_new_tokens), shorten the prompt" if answers else "shorten the prompt"
    raise LocretError(
        f"{read} tokens{written} are more than the model's window of {cache.window}: "
        f'{shorter}, or use positions="compact" (--positions compact), which reads any length'
    )


def _check_compact(cache: BudgetCache, length: int, later: int, answer: int) -> None:
    """Positions are places among the stored units and those of a pass."""
    stored = cache.stored
    for turn in (length, later):
        stored = _check_turn(cache, stored, turn)
    if not answer:
        return
    budget = cache.budget
    widest = stored + answer - 1
    if budget.decode_size is not None and cache.reading.policy.evicts:
        widest = min(widest, max(stored + 1, budget.decode_size + budget.decode_every))
    if widest > cache.window:
        raise LocretError(
            f"{stored} stored units + an answer of up to {answer} are more than the model's window of {cache.window}: "
            "allow a shorter answer (max_new_tokens), lower the budget, or bound the answer (decode_budget)"
        )


def _check_turn(cache: BudgetCache, stored: int, length: int) -> int:
    """Go through the passes of a turn; gives how many units are stored after it."""
    budget, evicts = cache.budget, cache.reading.policy.evicts
    seen, prompt = cache.tokens_seen, cache.reading.prompt_length
    end = seen + length if prompt is None or prompt <= seen else prompt  # a turn that is under way keeps its end
    _check_pass(cache, stored, min(length, budget.chunk))  # a pass that is no turn is not cut in pieces
    for piece in chunk_plan(seen, seen + length, end, budget):
        _check_pass(cache, stored, piece)
        seen, stored = seen + piece, stored + piece
        if evicts and stage_of(seen, piece, end, budget) is not Stage.KEEP:
            stored = min(stored, budget.size)
    return stored


def _check_pass(cache: BudgetCache, stored: int, new: int) -> None:
    if stored + new <= cache.window:
        return
    evicts = cache.reading.policy.evicts
    remedy = "lower the budget or the chunk" if evicts else "shorten the prompt, or choose a policy that evicts"
    raise LocretError(
        f"{stored} stored units + a chunk of {new} are more than the model's window of {cache.window}: {remedy}"
    )

"""ROUGE by the `rouge-score` package, which the authors of the benchmarks use as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from locret.errors import LocretError


def rouge(answer: str, golds: Sequence[str], kinds: Sequence[str]) -> dict[str, float]:
    """F-measures (0 to 1) of an answer, without stemming; the best of the golds for each kind.

    Args:
        answer: what was predicted.
        golds: right answers.
        kinds: of `rouge1`, `rouge2`, `rougeL`, `rougeLsum` (sentences are apart by newlines).

    Raises:
        LocretError: the package is not installed.
    """
    scores = _scorer(kinds).score_multi(list(golds), answer)
    return {kind: scores[kind].fmeasure for kind in kinds}


def _scorer(kinds: Sequence[str]) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise LocretError(
            "ROUGE needs the rouge-score package: install it with `pip install 'locret[rouge]'`"
        ) from error
    return RougeScorer(list(kinds), use_stemmer=False)

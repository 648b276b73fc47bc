"""L-Eval's scorers: a file's answers with their right answers in, per cent out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from locret.errors import LocretError
from locret.eval.benchmarks.leval_answers import Pair, fact, loyalty
from locret.eval.benchmarks.rouge import rouge
from locret.eval.benchmarks.words import LETTERS, normalized, word_f1

SUBSET = 0.25  # for some of the right letters, and no wrong one
ROUGE_KINDS = ("rouge1", "rouge2", "rougeL")
TOPICS = 3  # questions a conversation: its first, second and third topic

Prepare = Callable[[str, str], Pair]


@dataclass(frozen=True, slots=True)
class Scored:
    """A score, and its parts by name where it has some."""

    score: float | list[float]
    parts: dict[str, float]


def exact_match(answer: str, gold: str) -> float:
    """Letters must be the same (a quarter for some of them); numbers equal; other golds within the answer."""
    given, right = normalized(answer), normalized(gold)
    if set(right) <= set(LETTERS):
        return 1.0 if given == right else SUBSET * (set(given) <= set(right))
    try:
        return float(float(answer) == float(gold))
    except ValueError:
        return float(_squeezed(gold) in _squeezed(answer))


def exam(prepare: Prepare) -> Callable[[Sequence[Pair]], Scored]:
    """Mean exact match of what `prepare` makes of the answers."""
    return lambda pairs: Scored(_exam(prepare, pairs), {})


def f1(pairs: Sequence[Pair]) -> Scored:
    """Mean F1 of the words."""
    return Scored(_percent([word_f1(*pair) for pair in pairs]), {})


def story_and_fact(pairs: Sequence[Pair]) -> Scored:
    """Mean of the exact matches about a story and about the real world."""
    parts = {"loyalty": _exam(loyalty, pairs), "fact": _exam(fact, pairs)}
    return Scored(sum(parts.values()) / len(parts), parts)


def by_topic(prepare: Prepare) -> Callable[[Sequence[Pair]], Scored]:
    """Exact match of the questions for the first, second and third topic, which take turns."""

    def score(pairs: Sequence[Pair]) -> Scored:
        if len(pairs) < TOPICS:
            raise LocretError(f"{len(pairs)} predictions of {TOPICS} kinds that take turns: give {TOPICS} at least")
        return Scored([_exam(prepare, pairs[topic::TOPICS]) for topic in range(TOPICS)], {})

    return score


def rouge_mean(pairs: Sequence[Pair]) -> Scored:
    """Geometric mean of the mean ROUGE-1, -2 and -L, which are its parts: the authors' one figure for summaries."""
    each = [rouge(answer, (gold,), ROUGE_KINDS) for answer, gold in pairs]
    parts = {kind: _percent([scores[kind] for scores in each]) for kind in ROUGE_KINDS}
    return Scored(prod(parts.values()) ** (1 / len(parts)), parts)


def mean(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., parts] -> [...]: their mean; parts that nothing counts to are passed over."""
    result: NDArray[np.float64] = np.nanmean(parts, axis=-1)
    return result


def geometric_mean(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., parts] -> [...]: their geometric mean, as `rouge_mean` makes one figure of three."""
    result: NDArray[np.float64] = np.prod(parts, axis=-1) ** (1 / parts.shape[-1])
    return result


def _exam(prepare: Prepare, pairs: Sequence[Pair]) -> float:
    return _percent([exact_match(*prepare(*pair)) for pair in pairs])


def _percent(shares: Sequence[float]) -> float:
    return 100 * sum(shares) / len(shares)


def _squeezed(text: str) -> str:
    return text.lower().replace(" ", "")

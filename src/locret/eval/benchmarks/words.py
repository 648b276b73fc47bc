"""Texts compared word by word, as benchmarks of question answering have done since SQuAD."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

LETTERS = "ABCD"  # of the options of a question
PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(a|an|the)\b")


def normalized(text: str) -> str:
    """Without punctuation and articles, words apart by one space. Only small articles go: lower the text first."""
    return " ".join(ARTICLE.sub(" ", text.translate(PUNCTUATION)).split())


def f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the answer's words (or characters), counted with repetitions."""
    same = sum((Counter(answer) & Counter(gold)).values())
    return 2 * same / (len(answer) + len(gold)) if same else 0.0


def word_f1(answer: str, gold: str) -> float:
    """F1 of the words, 0 to 1; capitals, punctuation and articles do not count."""
    return f1(normalized(answer.lower()).split(), normalized(gold.lower()).split())

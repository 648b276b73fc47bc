"""RULER's metric: which references an answer contains, whatever their case."""

from __future__ import annotations

import re
from collections.abc import Sequence

CONTROL = re.compile(r"[\x00-\x1f]")


def tidy(text: str) -> str:
    """An answer as RULER scores it: control characters are line ends, none at its two ends."""
    return CONTROL.sub("\n", text.strip()).strip()


def match_all(answer: str, references: Sequence[str]) -> float:
    """The part of the references that the answer contains."""
    return sum(reference.lower() in answer.lower() for reference in references) / len(references)


def match_any(answer: str, references: Sequence[str]) -> float:
    """1 if the answer contains any of the references, else 0."""
    return float(any(reference.lower() in answer.lower() for reference in references))

"""InfiniteBench's scorers, one a task: a prediction and the right answer in, 0 to 1 out.

They do what the authors' scorers do, oddities included; where those crash (a decimal for a whole number) they give 0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from locret.eval.benchmarks.rouge import rouge
from locret.eval.benchmarks.words import LETTERS, PUNCTUATION, f1, word_f1

DIGITS = re.compile("[0-9]+")
NUMBER = re.compile(r"\d+\.\d+|\d+")
SPACES = re.compile(" {2,}")
WORD_ENDS = "\n:\"'.,?!{}"
RESULT_ENDS = "\n.`'\":"
CHOICE_ENDS = "\n\"'.,?!{}"
CHOICE_PHRASES = ("answer is:", "answer:", "answer is", "option is")
BUG_NOISE = re.compile("[\n`'\"*-]|[Oo]ption")
BUG_PHRASES = ("answer is:", "is:", "answer:", "correct option is:")
# The authors' list of Chinese punctuation as ranges of code points. It lacks some, such as the opening 《.
CHINESE_PUNCTUATION = (
    (0xFF01, 0xFF0D), (0xFF0F, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF64), (0x3001, 0x3003),
    (0x300B, 0x3011), (0x3014, 0x301F), (0x3030, 0x3030), (0x303E, 0x303F), (0x2013, 0x2014), (0x2018, 0x2019),
    (0x201B, 0x201F), (0x2026, 0x2027), (0xFE4F, 0xFE4F),
)  # fmt: skip
NO_PUNCTUATION = PUNCTUATION | {code: None for first, last in CHINESE_PUNCTUATION for code in range(first, last + 1)}


def first_digits(prediction: str, label: str) -> float:
    """Whether the first run of digits is the label."""
    found = DIGITS.search(prediction)
    return float(found is not None and found[0] == label)


def among_words(prediction: str, label: str) -> float:
    """Whether the label is one of the words."""
    return float(label in _words(prediction, WORD_ENDS))


def character_name(prediction: str, labels: Sequence[str]) -> float:
    """Whether the first label is one of the words in capitals."""
    return among_words(prediction.upper(), labels[0])


def first_number(prediction: str, label: float) -> float:
    """Whether the first number is the label."""
    found = NUMBER.search(prediction)
    return float(found is not None and float(found[0]) == label)


def last_integer(prediction: str, label: float) -> float:
    """Whether the last word is a whole number and the label."""
    words = _words(prediction, RESULT_ENDS)
    try:
        return float(bool(words) and int(words[-1]) == label)
    except ValueError:
        return 0.0


def value_prefix(prediction: str, labels: Sequence[int]) -> float:
    """How many values are right before the first wrong one, as a part of all. Signs are not read."""
    given = [digits.lstrip("0") or "0" for digits in DIGITS.findall(prediction)]
    right = 0
    while right < min(len(given), len(labels)) and given[right] == str(labels[right]):
        right += 1
    return right / len(labels)


def book_choice(prediction: str, label: Sequence[str]) -> float:
    """Whether the option's letter or text is named; `label` is [text, letter]."""
    prediction = prediction.strip()
    if prediction[:1] and prediction[0] in LETTERS:
        return float(prediction[0] in label)
    if prediction in label:
        return 1.0
    prediction = SPACES.sub(" ", _replace(prediction, CHOICE_ENDS))
    named = _after(prediction, CHOICE_PHRASES)
    if named is not None:
        return float(named.startswith(tuple(label)))
    lettered = [word for word in prediction.split() if word in LETTERS]
    return float(bool(lettered) and lettered[0] in label)


def buggy_function(prediction: str, label: Sequence[str]) -> float:
    """Whether the function's letter begins the answer, or its letter or name follows a phrase that announces it."""
    name, letter = label
    prediction = prediction.strip()
    if prediction.startswith((f"{letter}.", f"{letter}:")):
        return 1.0
    named = _after(SPACES.sub(" ", BUG_NOISE.sub(" ", prediction)), BUG_PHRASES)
    return float(named is not None and named.startswith((letter, name)))


def best_word_f1(prediction: str, labels: Sequence[str]) -> float:
    """F1 of the words with the label that is nearest."""
    return max(word_f1(prediction, label) for label in labels)


def best_character_f1(prediction: str, labels: Sequence[str]) -> float:
    """F1 of the characters with the label that is nearest."""
    return max(f1(_characters(prediction), _characters(label)) for label in labels)


def summary_rouge(prediction: str, labels: Sequence[str]) -> float:
    """RougeLsum."""
    return rouge(prediction, labels, ("rougeLsum",))["rougeLsum"]


def _words(text: str, ends: str) -> list[str]:
    return _replace(text, ends).split()


def _replace(text: str, characters: str) -> str:
    return text.translate(dict.fromkeys(map(ord, characters), " "))


def _after(text: str, phrases: Sequence[str]) -> str | None:
    """What follows the first phrase in the list that occurs, but for one character; None if none does."""
    for phrase in phrases:
        _, found, rest = text.partition(phrase)
        if found:
            return rest[1:]
    return None


def _characters(text: str) -> str:
    return "".join(text.lower().translate(NO_PUNCTUATION).split())

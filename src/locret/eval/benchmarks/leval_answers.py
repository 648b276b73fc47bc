"""What of an answer to a closed L-Eval question is compared, one function a form: (answer, gold) in and out.

They find what the authors' script finds, oddities included.
"""

from __future__ import annotations

import re

from locret.errors import LocretError
from locret.eval.benchmarks.jsonl import Record
from locret.eval.benchmarks.words import LETTERS

NOT_A_LETTER = re.compile("[^A-D]")
MARKED_LETTER = re.compile(r"[A-Z](?=[\s.)])")
LETTER_RUN = re.compile("[A-D]+")
THE_ANSWER = re.compile(r"The answer is (\S+)")
CODE_NOISE = (",", "'", "\\", ".0")
CODE_BRACKETS = (("] [", "]["), ("[ [", "[["), ("] ]", "]]"))
CODE_PHRASES = ("will be", "of the code", "is", "would be", "the value of", "the result of", "printed")
FINAL_OUTPUT = "the final output"
MORE_WORDS = 3  # of a program's output than the right answer has
FACT = "[fact:"
NO_ANSWER = "None"
NO_JUDGEMENT = "<error>"

Pair = tuple[str, str]


def as_they_are(answer: str, gold: str) -> Pair:
    """Both texts."""
    return answer, gold


def one_letter(answer: str, gold: str) -> Pair:
    """The first A, B, C or D; letters alone as they are."""
    found = LETTER_RUN.search(answer)
    return _alone(answer) or (found[0][0] if found else "A"), _gold_letters(gold)


def all_letters(answer: str, gold: str) -> Pair:
    """Every letter that is named, in order."""
    return _alone(answer) or _letters_within(answer), _gold_letters(gold)


def number(answer: str, gold: str) -> Pair:
    """The whole part of the number after "The answer is", else of the last one in the first paragraph."""
    return _number(answer), _number(gold)


def code_output(answer: str, gold: str) -> Pair:
    """The words after "the final output", or the last ones: three more than the right answer has."""
    count = len(gold.split()) + MORE_WORDS
    text = _code(answer)
    for phrase in CODE_PHRASES:
        text = text.replace(phrase, "")
    _, found, after = text.rpartition(FINAL_OUTPUT)
    words = re.split(r"\s+", after if found else text)
    return " ".join(words[:count] if found else words[-count:]), _code(gold)


def loyalty(answer: str, gold: str) -> Pair:
    """True or false in the story's world: what stands before the fact."""
    return _judgement(answer.lower().partition(FACT)[0]), gold.lower().partition(FACT)[0].strip()


def fact(answer: str, gold: str) -> Pair:
    """True or false in the real world: `[fact: ...]`."""
    return _judgement(_fact(answer)), _fact(gold)


def check_judgements(record: Record) -> None:
    """Refuse a right answer that does not hold a judgement of the story and one of the world.

    Raises:
        LocretError: with the place.
    """
    if FACT not in record.text("gt").lower():
        raise LocretError(f"{record.place} has no '{FACT} ...]' in 'gt', the right answer about the real world")


def _alone(answer: str) -> str:
    """An answer of letters and nothing else, or no answer at all; "" for any other."""
    if not answer.strip():
        return NO_ANSWER
    return answer if answer in LETTERS else ""


def _gold_letters(gold: str) -> str:
    return NOT_A_LETTER.sub("", (gold.split() or [""])[0]) or "A"


def _letters_within(answer: str) -> str:
    """Letters that the answer begins with, else those that a space, dot or bracket follows, else the first; else A."""
    beginning = LETTER_RUN.match(answer)
    leading = beginning[0] if beginning else ""
    if len(leading) > 1:
        return "".join(sorted(set(leading)))
    rest = answer[len(leading) :].partition("Question")[0]
    named = set(leading).union(MARKED_LETTER.findall(rest)) & set(LETTERS)
    if named:
        return "".join(sorted(named))
    found = LETTER_RUN.search(rest)
    return found[0] if found else "A"


def _number(text: str) -> str:
    found = THE_ANSWER.search(text)
    words = [found[1]] if found else text.partition("\n\n")[0].split(" ")
    numerals = [word for word in words if any(map(str.isdigit, word))]
    return "".join(filter(str.isdigit, numerals[-1].partition(".")[0])) if numerals else ""


def _code(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    for noise in CODE_NOISE:
        text = text.replace(noise, "")
    for apart, together in CODE_BRACKETS:
        text = text.replace(apart, together)
    return text


def _fact(text: str) -> str:
    return "".join(text.lower().split(FACT)[1:2])[:-1].strip()


def _judgement(text: str) -> str:
    judged = [verdict for word in text.split() for verdict in ("true", "false") if verdict in word]
    return judged[0] if judged else NO_JUDGEMENT

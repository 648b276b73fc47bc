from __future__ import annotations

import pytest

from locret.eval.benchmarks import leval_answers as answers
from locret.eval.benchmarks import leval_scores as scores
from locret.eval.benchmarks.words import word_f1


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [
        ("A", "A", 1),
        ("A.", "A", 1),
        ("AB", "ABC", 0.25),
        ("AD", "ABC", 0),
        ("ABC", "AB", 0),
        ("18", "18.0", 1),
        ("17", "18", 0),
        ("The Role of Art, again", "role of art", 1),
        ("role", "role of art", 0),
    ],
)
def test_exact_match(answer: str, gold: str, score: float) -> None:
    assert scores.exact_match(answer, gold) == score


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("A", "A"), ("(B) because", "B"), (" the answer: C or D", "C"), ("AB", "AB"), ("  ", "None"), ("no", "A")],
)
def test_one_letter(answer: str, letter: str) -> None:
    assert answers.one_letter(answer, "(D) text") == (letter, "D")


@pytest.mark.parametrize(
    ("answer", "letters"),
    [
        ("CA", "AC"),
        ("C, A and D.", "ACD"),
        ("B. Yes\nD) no", "BD"),
        ("None: C", "C"),
        ("x Question A.", "A"),
        ("", "None"),
        ("no", "A"),
    ],
)
def test_all_letters(answer: str, letters: str) -> None:
    assert answers.all_letters(answer, "BD.")[0] == letters
    assert answers.all_letters(answer, "BD.")[1] == "BD"


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("5 and 6. The answer is $1,800.50.", "1800"),
        ("so 5 + 6 = 11 dollars", "11"),
        ("first 7\n\nthen 8", "7"),
        ("The answer is unknown", ""),
        ("none", ""),
    ],
)
def test_numbers(answer: str, number: str) -> None:
    assert answers.number(answer, "18") == (number, "18")


def test_code_output() -> None:
    told = "It prints 3. So the final output of the code will be [1, 2.0]. And more words follow here"
    assert answers.code_output(told, "[1 2]") == (" [1 2]. And more", "[1 2]")
    assert answers.code_output("a b c d e f [[3] [4]]", "x") == ("d e f [[3][4]]", "x")


def test_judgements() -> None:
    assert answers.loyalty("That is Untrue [fact: no]", "True [fact: False]") == ("true", "true")
    assert answers.fact("That is Untrue [fact: no]", "True [fact: False]") == ("<error>", "false")


def test_topics_take_turns() -> None:
    pairs = [("a", "a"), ("b", "x"), ("c", "c"), ("d", "d"), ("e", "e")]
    assert scores.by_topic(answers.as_they_are)(pairs).score == [100, 50, 100]


@pytest.mark.parametrize(
    ("answer", "gold", "score"),
    [("The cat!", "a cat", 1), ("cat cat", "cat", 2 / 3), ("", "", 0), ("dog", "cat", 0)],
)
def test_word_f1(answer: str, gold: str, score: float) -> None:
    assert word_f1(answer, gold) == pytest.approx(score)

"""Needles: registry, drawing, the split of the keys, and the check of answers."""

from __future__ import annotations

import random

import pytest

from locret.errors import LocretError
from locret.eval.needles import (
    MIXED_KINDS,
    Template,
    draw_decoys,
    draw_needles,
    get_template,
    is_correct,
    is_held_out,
    kinds,
    register_template,
    templates,
    words,
)

NAMES = [template.name for template in templates()]


def test_published_sentences() -> None:
    needle = draw_needles("magic", 1, random.Random(0))[0]
    assert needle.sentence == f"The magic number for {needle.key} is {needle.value}."
    assert needle.question == (
        f"Question: What is the magic number for {needle.key}? Answer: The magic number for {needle.key} is"
    )
    assert needle.asked == f"Question: What is the magic number for {needle.key}?"
    assert draw_needles("passkey", 1, random.Random(0))[0].sentence.endswith(". Remember it.")


@pytest.mark.parametrize("name", NAMES)
def test_question_and_answer_repeat_the_sentence(name: str) -> None:
    for needle in draw_needles(name, 1, random.Random(1)):
        start = needle.question.partition("Answer: ")[2]
        assert needle.sentence.startswith(start + needle.answer + ".")


@pytest.mark.parametrize("name", [*NAMES, "mix"])
def test_drawing_is_seeded_and_keys_differ(name: str) -> None:
    count = 1 if name == "passkey" else 16
    needles = draw_needles(name, count, random.Random(7))
    assert needles == draw_needles(name, count, random.Random(7))
    assert len({(needle.kind, needle.key) for needle in needles}) == count


def test_mix_has_every_kind_as_often() -> None:
    found = [needle.kind for needle in draw_needles("mix", 16, random.Random(0))]
    assert {kind: found.count(kind) for kind in found} == dict.fromkeys(MIXED_KINDS, 4)


@pytest.mark.parametrize("name", ["word", "record", "drawer"])
@pytest.mark.parametrize("split", ["trained", "heldout"])
def test_keys_stay_in_their_split(name: str, split: str) -> None:
    for needle in draw_needles(name, 40, random.Random(2), keys=split):
        assert is_held_out(needle.key) == (split == "heldout")
        if not needle.value.isdigit():
            assert all(is_held_out(word) == (split == "heldout") for word in needle.value.split())


def test_word_list_is_split_in_thousands() -> None:
    assert len(words("trained")) > 3000
    assert 500 < len(words("heldout")) < len(words("trained")) / 3
    assert not set(words("trained")) & set(words("heldout"))


def test_two_templates_are_held_out() -> None:
    assert [template.name for template in templates() if not template.trained] == ["code", "city"]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (" 3812. And then", True),
        (" 3812", True),
        ("\n3812</s>", True),
        (" 38123.", False),
        (" 381", False),
        (" the 3812", False),
        ("", False),
    ],
)
def test_is_correct(answer: str, right: bool) -> None:
    needle = draw_needles("magic", 1, random.Random(0))[0]
    assert is_correct(answer.replace("3812", needle.value).replace("381", needle.value[:3]), needle) == right


def test_decoys_are_seeded() -> None:
    assert draw_decoys(5, random.Random(3)) == draw_decoys(5, random.Random(3))


def test_errors_name_the_problem() -> None:
    rng = random.Random(0)
    with pytest.raises(LocretError, match="unknown kind of needle 'nothing'"):
        draw_needles("nothing", 1, rng)
    with pytest.raises(LocretError, match="one passkey only"):
        draw_needles("passkey", 2, rng)
    with pytest.raises(LocretError, match="'trained' or 'heldout'"):
        draw_needles("record", 1, rng, keys="all")
    with pytest.raises(LocretError, match="at least 1"):
        draw_needles("magic", 0, rng)
    with pytest.raises(LocretError, match="not 1000 different keys"):
        draw_needles("record", 1000, rng)
    with pytest.raises(LocretError, match="exists already"):
        register_template(Template("magic", "What?", "It is", "word", "digits4"))
    assert get_template("magic").value == "digits4"
    assert kinds()[-1] == "mix"

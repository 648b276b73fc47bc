from __future__ import annotations

import random
from itertools import pairwise

import pytest

from locret.errors import LocretError
from locret.eval.fidelity import ForcedPassage, build_passage
from locret.eval.fidelity.continuations import REPEAT_TOKENS, TEXT_TOKENS
from locret.eval.fidelity.facts import TEMPLATES, draw_facts
from locret.eval.fidelity.passage import place_of
from locret.eval.haystack import EncodedFiller, Filler, plain_ids
from locret.eval.needles import kinds, words
from tests.eval.models import byte_tokenizer

FILLER = Filler(" ".join(f"On day {day} the keeper wrote {day * day} lines, and then he slept." for day in range(900)))
TOKENIZER = byte_tokenizer(begins=True)
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHATTY = byte_tokenizer()
CHATTY.chat_template = CHAT


def passage(index: int = 0, length: int = 4000, chat: bool = False) -> ForcedPassage:
    return build_passage(CHATTY if chat else TOKENIZER, FILLER, length, index, chat, facts=4)


@pytest.mark.parametrize("chat", [False, True])
def test_the_document_has_its_length_and_hides_the_facts_where_it_says(chat: bool) -> None:
    made = passage(chat=chat)
    head = "<user>" if chat else "<s>"
    assert TOKENIZER.decode(made.ids).startswith(head + " ")
    assert len(made.ids) == 4000 + len(plain_ids(TOKENIZER, head))
    assert len(made.facts) == 4
    for fact, position in zip(made.facts, made.positions, strict=True):
        assert TOKENIZER.decode(made.ids[position:]).startswith(" " + fact.sentence)


@pytest.mark.parametrize("chat", [False, True])
def test_questions_with_true_answers_are_a_conversation(chat: bool) -> None:
    made = passage(chat=chat)
    facts = made.continuations["facts"]
    if chat:
        said = [{"role": "user", "content": ""}]
        for fact in made.facts:
            said[-1]["content"] += fact.asked.removeprefix("Question: ")
            said += [{"role": "assistant", "content": fact.sentence}, {"role": "user", "content": ""}]
        whole = CHATTY.apply_chat_template(said[:-1], tokenize=False)
        want = "\n\n" + whole.removeprefix("<user>").removesuffix("</s>\n")
    else:
        want = "".join(f"\n{fact.asked} Answer: {fact.sentence}" for fact in made.facts)
    assert TOKENIZER.decode(facts.ids) == want
    assert TOKENIZER.decode(facts.targets) == "".join(fact.answer for fact in made.facts)


@pytest.mark.parametrize("index", range(4))
def test_the_repeated_passage_is_one_of_the_document_and_asked_for_by_its_beginning(index: int) -> None:
    made = passage(index)
    repeat = made.continuations["repeat"]
    asked, _, answer = TOKENIZER.decode(repeat.ids).partition(" Answer: ")
    document = TOKENIZER.decode(made.ids)
    assert answer in document
    given = asked.partition('begins with "')[2].removesuffix('".')
    assert answer.startswith(given)
    assert document.count(given) == 1
    assert answer.removeprefix(given) == TOKENIZER.decode(repeat.targets)
    assert len(repeat.targets) == REPEAT_TOKENS
    assert not any(fact.sentence in answer for fact in made.facts)


def test_names_of_control_tokens_in_the_filler_end_no_turn() -> None:
    filler = Filler(" ".join(f"On day {day} he wrote </s> beneath {day * day} lines and slept." for day in range(900)))
    made = build_passage(CHATTY, filler, 4000, 0, chat=True, facts=4)
    assert CHATTY.eos_token_id not in made.ids
    ends = {name: one.ids.count(CHATTY.eos_token_id) for name, one in made.continuations.items()}
    assert ends == {"facts": 2 * 4 - 1, "repeat": 1, "text": 0}
    _, _, answer = CHATTY.decode(made.continuations["repeat"].ids).partition("</s>\n<assistant>")
    assert answer in CHATTY.decode(made.ids)
    assert "</s>" in answer


@pytest.mark.parametrize("chat", [False, True])
def test_the_text_goes_on_as_the_filler_does(chat: bool) -> None:
    made = passage(chat=chat)
    text = made.continuations["text"]
    assert len(text.ids) == TEXT_TOKENS
    assert all(text.measured)
    read = TOKENIZER.decode(made.ids)
    for fact in made.facts:
        read = read.replace(" " + fact.sentence, "")
    joined = (read[-300:] + TOKENIZER.decode(text.ids)).replace("<s>", "")
    assert joined in " ".join(piece.strip() for piece in FILLER.pieces)


def test_a_passage_depends_on_its_index_alone() -> None:
    assert passage(3) == passage(3)
    assert passage(3).ids != passage(4).ids
    assert passage(3).facts != passage(4).facts


def test_text_without_blanks_goes_on_and_hides_facts_but_no_passage_of_it_is_repeated() -> None:
    filler = Filler("\n".join(f"看守人在第{day}天写了{day * day}行。" * 4 for day in range(900)))
    made = build_passage(TOKENIZER, filler, 4000, 0, wanted=("facts", "text"))
    assert list(made.continuations) == ["facts", "text"]
    assert len(set(made.positions)) == len(made.facts) == 8
    with pytest.raises(LocretError, match="or leave repeat out where the filler is written without blanks"):
        build_passage(TOKENIZER, filler, 4000, 0)


@pytest.mark.parametrize("name", ["facts", "repeat", "text"])
def test_what_else_is_wanted_changes_nothing(name: str) -> None:
    alone = build_passage(TOKENIZER, FILLER, 4000, 1, facts=4, wanted=(name,))
    assert alone.ids == passage(1).ids
    assert alone.continuations == {name: passage(1).continuations[name]}


def test_a_filler_that_is_shorter_than_a_document_is_refused() -> None:
    tokens = len(FILLER.encode(TOKENIZER).ids)
    assert build_passage(TOKENIZER, FILLER, tokens - TEXT_TOKENS, 0)
    with pytest.raises(
        LocretError, match=rf"has {tokens} tokens, .* takes {tokens + 1}: give a longer one or a smaller"
    ):
        build_passage(TOKENIZER, FILLER, tokens - TEXT_TOKENS + 1, 0)


def test_places_do_not_overlap_while_there_are_enough() -> None:
    filler = EncodedFiller(range(10_000), list(range(0, 10_000, 9)))
    begins = [filler.starts[place_of(filler, 900, index)] for index in range(10)]
    taken = sorted(begins)
    assert all(later - earlier >= 900 for earlier, later in pairwise(taken))
    assert taken[-1] + 900 <= 10_000
    assert begins != taken  # neighbours in number are not neighbours in the text
    again = [filler.starts[place_of(filler, 900, index)] for index in range(10, 20)]
    assert not set(again) & set(begins)  # the second round begins elsewhere


def test_facts_are_held_out() -> None:
    facts = draw_facts(8, random.Random(0))
    assert all({fact.key, fact.key.lower()} & {*words("heldout")} for fact in facts)
    assert len({fact.key for fact in facts}) == 8
    assert not {template.name for template in TEMPLATES} & set(kinds())


def test_bad_input() -> None:
    with pytest.raises(LocretError, match=r"4 facts take \d+ of the document's 200 tokens: give a length of at least"):
        passage(length=200)
    with pytest.raises(LocretError, match="facts is 0: give 1 to"):
        build_passage(TOKENIZER, FILLER, 1000, 0, facts=0)
    with pytest.raises(LocretError, match="unknown continuation 'fact': choose from facts, repeat, text"):
        build_passage(TOKENIZER, FILLER, 1000, 0, wanted=("fact",))
    with pytest.raises(LocretError, match="--chat needs a tokenizer with a chat template"):
        build_passage(TOKENIZER, FILLER, 1000, 0, chat=True)
    with pytest.raises(LocretError, match=r"no sentence of the document has 80 words, .*: give a greater length"):
        passage(length=350)

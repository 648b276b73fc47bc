"""Answers stand where they must be and nowhere else."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.ruler import Recipe, Sources, get_ruler_task, list_ruler_tasks, niah, records
from locret.eval.ruler.sources import NOISE, draw_number, word_list

NEEDLE = re.compile(r"One of the special magic (\w+)s for (\S+) is: (\S+)\.")
NUMBER, UUID, PAIR = r"\d{7}", r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", r"[a-z]+-[a-z]+"
NEEDLE_TASKS = {  # keys look like, values look like, needles (None: as many as fit), answers
    "niah_single_1": (PAIR, NUMBER, 1, 1),
    "niah_single_2": (PAIR, NUMBER, 1, 1),
    "niah_single_3": (PAIR, UUID, 1, 1),
    "niah_multikey_1": (PAIR, NUMBER, 4, 1),
    "niah_multikey_2": (PAIR, NUMBER, None, 1),
    "niah_multikey_3": (UUID, UUID, None, 1),
    "niah_multivalue": (PAIR, NUMBER, 4, 4),
    "niah_multiquery": (PAIR, NUMBER, 4, 4),
}


def make(task: str, tokenizer: Any, length: int = 1024, samples: int = 5, **sources: str) -> list[dict[str, Any]]:
    return list(records(Recipe(task, length, samples, sources=Sources(**sources)), tokenizer))


@pytest.mark.parametrize("task", NEEDLE_TASKS)
def test_needles(task: str, tokenizer: Any) -> None:
    key, value, count, answers = NEEDLE_TASKS[task]
    for record in make(task, tokenizer):
        text = record["input"] + record["answer_prefix"]
        needles = NEEDLE.findall(text)
        assert all(re.fullmatch(key, needle[1]) and re.fullmatch(value, needle[2]) for needle in needles)
        assert len(needles) == count or (count is None and len(needles) > 2)
        asked = re.search(r"\nWhat .* for (.+) mentioned in the provided text\?$", record["input"])
        assert asked is not None
        keys = re.split(r", and |, ", asked[1])
        of_keys = [needle[2] for key in keys for needle in needles if needle[1] == key]
        assert sorted(record["outputs"]) == sorted(of_keys)
        assert len(record["outputs"]) == answers
        assert all(text.count(output) == 1 for output in record["outputs"])
        assert record["answer_prefix"].endswith(
            f"for {asked[1]} mentioned in the provided text " + ("is", "are")[answers > 1]
        )
        plain = ("A special magic", "Some special magic")[answers > 1]
        assert record["input"].startswith(plain)


def test_queries_are_answered_in_their_order(tokenizer: Any) -> None:
    for record in make("niah_multiquery", tokenizer):
        values = {needle[1]: needle[2] for needle in NEEDLE.findall(record["input"])}
        asked = record["answer_prefix"].removeprefix(" The special magic numbers for ").split(" mentioned")[0]
        assert [values[key] for key in re.split(r", and |, ", asked)] == record["outputs"]


def test_needles_stand_everywhere(tokenizer: Any) -> None:
    made = make("niah_single_1", tokenizer, samples=40)
    depths = [record["input"].index("One of the special") / len(record["input"]) for record in made]
    assert min(depths) < 0.25
    assert max(depths) > 0.75


def test_the_essay_is_the_text_given(tokenizer: Any, tmp_path: Path) -> None:
    text = "Ships sail far.  All of them\ncome home? Not the small ones."
    plain, essays = tmp_path / "essay.txt", tmp_path / "essays.json"
    plain.write_text(text)
    essays.write_text(json.dumps({"text": text}))
    [record] = make("niah_single_2", tokenizer, samples=1, essay=str(plain))
    assert make("niah_single_2", tokenizer, samples=1, essay=str(essays)) == [record]
    document = NEEDLE.sub("", record["input"]).split("\n")[1].replace("  ", " ")
    assert " ".join(document.split()[:24]) == " ".join(text.split() * 2)


def test_an_essay_without_sentences_has_needles_inside(tokenizer: Any, tmp_path: Path) -> None:
    essay = tmp_path / "essay.txt"
    essay.write_text("wave " * 2000)
    made = make("niah_single_2", tokenizer, 4096, 10, essay=str(essay))
    assert any(0.2 < record["input"].index("One of") / len(record["input"]) < 0.8 for record in made)


def test_a_haystack_that_holds_an_answer_is_drawn_again(tokenizer: Any, tmp_path: Path) -> None:
    [plain] = make("niah_single_1", tokenizer, samples=1)
    essay = tmp_path / "essay.txt"
    essay.write_text("One and two. Three and four.")
    [first] = make("niah_single_2", tokenizer, samples=1, essay=str(essay))
    essay.write_text(f"One and two. Three and four {first['outputs'][0]}.")
    [second] = make("niah_single_2", tokenizer, samples=1, essay=str(essay))
    assert second["outputs"] != first["outputs"] != plain["outputs"]
    assert second["input"].count(second["outputs"][0]) == 1


def test_a_haystack_of_all_answers_is_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(niah.DRAW, "number", lambda rng: "7777777")
    essay = tmp_path / "essay.txt"
    essay.write_text("It was 7777777.")
    with pytest.raises(LocretError, match=r"100 draws of sample 0 .* give another text"):
        make("niah_single_2", tokenizer, 400, samples=1, essay=str(essay))


@pytest.mark.parametrize("length", [512, 4096])
def test_variables(tokenizer: Any, length: int) -> None:
    for record in make("vt", tokenizer, length):
        example, own = record["input"].split("\n\nMemorize")
        question = re.search(r"assigned the value (\d{5}) in the text above\.$", own)
        assert question is not None
        assert all(re.fullmatch("[A-Z]{5}", name) for name in record["outputs"])
        chain = re.findall(r"^VAR (\w+) = (?:VAR )?(\w+)", own, re.MULTILINE)
        assert [name for name, _ in chain] == record["outputs"]
        assert [given for _, given in chain] == [question[1], *record["outputs"][:-1]]
        assert not any(name in example for name in record["outputs"])
        solved = re.findall(r"^VAR (\w{3}) = ", example, re.MULTILINE)
        assert len(solved) == 5
        assert example.endswith(f"they are:  {' '.join(solved)}")
        lines = own.split("\n\n", 1)[1].rsplit("\n", 1)[0].split("\n")
        assert {line for line in lines if not line.startswith("VAR")} == {NOISE}


@pytest.mark.parametrize(("length", "common", "other"), [(1024, 6, 1), (4095, 6, 1), (4096, 30, 3)])
def test_common_words(tokenizer: Any, length: int, common: int, other: int) -> None:
    for record in make("cwe", tokenizer, length, 2):
        example, own = record["input"].split("\nBelow is a numbered list")
        listed = re.findall(r"(\d+)\. (\w+)", own)
        assert [int(number) for number, _ in listed] == list(range(1, len(listed) + 1))
        counts = Counter(word for _, word in listed)
        assert sorted(record["outputs"]) == sorted(word for word in counts if counts[word] == common)
        assert len(record["outputs"]) == 10
        assert set(counts.values()) == {common, other}
        assert all(record["input"].count(word) == common for word in record["outputs"])
        shown = Counter(word for _, word in re.findall(r"(\d+)\. (\w+)", example.split("Question:")[0]))
        solved = re.findall(r"\d+\. (\w+)", example.split("are:")[1])
        assert [word for word, _ in shown.most_common(10)] != counts.most_common(10)
        assert set(solved) == {word for word in shown if shown[word] == max(shown.values())}
        assert not shown.keys() & counts.keys()


def test_long_lists_have_made_up_words(tokenizer: Any) -> None:
    [record] = make("cwe", tokenizer, 65536, 1)
    words = set(re.findall(r"\d+\. (\w+)", record["input"]))
    assert len(words) > 1000
    assert any(word not in word_list() for word in words)
    assert set(record["outputs"]) <= set(word_list())


@pytest.mark.parametrize("length", [512, 4096])
def test_frequent_words(tokenizer: Any, length: int) -> None:
    for record in make("fwe", tokenizer, length):
        text = record["input"].split("coded words. ", 1)[1].split("\nQuestion:")[0]
        counts = Counter(text.split(" "))
        (dots, most), *rest = counts.most_common(6)
        assert dots == "..."
        assert [word for word, _ in rest[:3]] == record["outputs"]
        assert most > rest[0][1] > rest[1][1] > rest[2][1] > rest[3][1]
        assert all(re.fullmatch("[a-z]{6}", word) for word, _ in rest)
        assert len(counts) <= length // 50
        # Zipf with alpha = 2: the second rank has a quarter of the first, the third a ninth.
        assert abs(rest[0][1] - most / 4) <= 1
        assert abs(rest[1][1] - most / 9) <= 1


@pytest.mark.parametrize("task", ["qa_1", "qa_2"])
def test_questions(task: str, tokenizer: Any, question_files: dict[str, Path]) -> None:
    for record in make(task, tokenizer, questions=str(question_files[task])):
        documents = re.split(
            r"\n\nDocument \d+:\n", record["input"].split("given documents.\n", 1)[1].rsplit("\n\nAnswer")[0]
        )
        numbers = [int(number) for number in re.findall(r"^Document (\d+):$", record["input"], re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(set(documents)) == len(documents)
        assert sum(record["outputs"][0] in document for document in documents) == 1
        assert record["answer_prefix"] == " Answer:"


def test_squad_documents_of_the_same_article_come_first(tokenizer: Any, question_files: dict[str, Path]) -> None:
    [record] = make("qa_1", tokenizer, 1536, 1, questions=str(question_files["qa_1"]))
    articles = [int(article) for article in re.findall(r"Bridge (\d)-\d was built", record["input"])]
    assert articles.count(0) == 8 or set(articles) == {0}
    assert record["outputs"] == ["1000", "the year 1000"]


def test_all_paragraphs_of_a_hotpot_question_are_there(tokenizer: Any, question_files: dict[str, Path]) -> None:
    for record in make("qa_2", tokenizer, 512, questions=str(question_files["qa_2"])):
        number = record["index"]
        assert record["input"].count("This paragraph comes with every question.") == 1
        for title in (f"Boat {number}\nBoat", f"Maker {number}\nMaker", f"Chair {number}\n"):
            assert record["input"].count(title) == 1


def test_numbers_have_seven_digits() -> None:
    rng = random.Random(0)
    assert all(re.fullmatch(r"[1-9]\d{6}", draw_number(rng)) for _ in range(100))


@pytest.mark.parametrize("task", list_ruler_tasks())
def test_inputs_are_taken_apart_where_they_were_put_together(
    task: str, tokenizer: Any, sources_of: dict[str, Sources]
) -> None:
    wording = get_ruler_task(task).generator.wording
    for record in records(Recipe(task, 1024, 2, sources=sources_of.get(task, Sources())), tokenizer):
        before, document, question = wording.split(record["input"])
        assert before + document + question == record["input"]
        assert before.endswith(wording.before)
        assert question.startswith(wording.after.partition("{")[0])
        assert wording.before not in document
        assert all(output in document for output in record["outputs"][:1])

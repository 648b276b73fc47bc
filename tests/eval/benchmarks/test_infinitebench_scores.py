from __future__ import annotations

from typing import Any

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks import infinitebench_labels as labels
from locret.eval.benchmarks import infinitebench_scores as scores
from locret.eval.benchmarks.infinitebench import TASKS, InfiniteBenchTask

OPTION = ["Walking Georgie", "B"]
BUG = ["repack_archive", "C"]


def task(name: str) -> InfiniteBenchTask:
    [found] = (one for one in TASKS if one.name == name)
    return found


@pytest.mark.parametrize(
    ("name", "prediction", "label", "score"),
    [
        ("passkey", " 71432.", ["71432"], 1),
        ("passkey", "The pass key is 71432 and not 5", "71432", 1),
        ("passkey", "7 1432", 71432, 0),
        ("passkey", "no digits", "71432", 0),
        ("number_string", "0071", "71", 0),
        ("kv_retrieval", 'the value is: "ab-1".', ["ab-1"], 1),
        ("kv_retrieval", "xab-1", "ab-1", 0),
        ("longdialogue_qa_eng", "Ace Rothstein", ["ACE", "ROTHSTEIN"], 1),
        ("longdialogue_qa_eng", "Rothstein", ["ACE", "ROTHSTEIN"], 0),
        ("longdialogue_qa_eng", "ace", "ACE", 1),
        ("math_find", "It is 88, not 99", [88], 1),
        ("math_find", "88.5", "88", 0),
        ("math_find", "48", [48.0], 1),
        ("math_find", "48.5 or so", "48.5", 1),
        ("math_find", "none", 3, 0),
        ("math_calc", "[1, 04, 8]", [1, 4, 8], 1),
        ("math_calc", "1 4 9 8", [["1", "4", "8", "8"]], 0.5),
        ("math_calc", "", [1], 0),
        ("math_calc", "9" * 5000, [9], 0),
        ("code_run", "func_1(2) returns: -14.", ["-14"], 1),
        ("code_run", "-14 it is", -14, 0),
        ("code_run", "", 4, 0),
        ("code_run", "9" * 5000, 4, 0),
        ("longbook_qa_eng", "The War, in the end!", ["peace", "war end"], 0.8),
        ("longbook_qa_eng", "nothing", ["war"], 0),
        ("longbook_qa_chn", "素素。", ["素 素\uff01"], 1),
        ("longbook_qa_chn", "《素", ["素"], 2 / 3),
    ],
)
def test_scores(name: str, prediction: str, label: Any, score: float) -> None:
    lines = [{"id": 0, "prediction": prediction, "ground_truth": label}]
    assert task(name).score(lines) == pytest.approx(100 * score)


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("B", 1),
        ("But", 1),
        ("A. Walking Georgie", 0),
        ("Walking Georgie", 1),
        ("I think the answer is: B", 1),
        ("the answer is Walking Georgie", 1),
        ("the answer is", 0),
        ("the answer is: D, or B", 0),
        ("this option is B", 1),
        ("perhaps B or C", 1),
        ("perhaps AB or B", 0),
        ("", 0),
        ("no", 0),
    ],
)
def test_book_choice(prediction: str, score: float) -> None:
    assert scores.book_choice(prediction, OPTION) == score


@pytest.mark.parametrize(
    ("prediction", "score"),
    [
        ("C. whatever", 1),
        ("C: whatever", 1),
        ("C", 0),
        ("The answer is:\n\n**Option C**", 1),
        ("The answer is probably C", 0),
        ("The buggy one is: `repack_archive`", 1),
        ("answer: D, not C", 0),
        ("The correct option is:", 0),
    ],
)
def test_buggy_function(prediction: str, score: float) -> None:
    assert scores.buggy_function(prediction, BUG) == score


def test_summaries_take_the_nearest_label() -> None:
    lines = [{"prediction": "the cat sat\non the mat", "ground_truth": ["dogs", "the cat sat\non the mat"]}]
    assert task("longbook_sum_eng").score(lines) == pytest.approx(100)


def test_rouge_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(LocretError, match=r"pip install 'locret\[rouge\]'"):
        task("longbook_sum_eng").score([{"prediction": "a", "ground_truth": "b"}])


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("passkey", {"id": 0, "ground_truth": "1"}, "prediction 1 has no field 'prediction' or 'pred'"),
        ("passkey", {"prediction": "1"}, "prediction 1 has no field 'ground_truth' or 'label'"),
        ("passkey", {"prediction": 1, "label": "1"}, "prediction 1 has 1 in 'prediction'"),
        ("passkey", {"prediction": "1", "label": []}, "give one answer at least"),
        ("code_run", {"prediction": "1", "label": "x"}, "'x' for the right answer of code_run"),
        ("code_debug", {"prediction": "1", "label": ["x"]}, r"give \[text, letter\]"),
    ],
)
def test_bad_predictions(name: str, line: dict[str, Any], message: str) -> None:
    with pytest.raises(LocretError, match=message):
        task(name).score([line])


def test_no_predictions() -> None:
    with pytest.raises(LocretError, match="there is no prediction to score for infinitebench passkey"):
        task("passkey").score([])


@pytest.mark.parametrize("value", ["two", ["two"], ["two", "B"]])
def test_choices_in_every_form(value: Any) -> None:
    assert labels.choice(value, ["one", "two", "three", "four"]) == ["two", "B"]


@pytest.mark.parametrize("convert", [labels.text, labels.texts, labels.number, labels.numbers])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), [float("-inf")]])
def test_right_answers_that_are_no_numbers_are_refused(convert: Any, value: object) -> None:
    with pytest.raises(ValueError, match="give a number that is finite"):
        convert(value)

from __future__ import annotations

import pytest

from locret.errors import LocretError
from locret.eval.benchmarks.base import list_benchmark_tasks
from locret.eval.fidelity.continuations import NAMES as FORCED
from locret.eval.quizzes.names import Kind, benchmark_task, keys_of, kind_of, list_generated
from locret.eval.ruler.tasks import list_ruler_tasks
from locret.eval.tasks import list_tasks

# The interface names them.
SYNTHETIC = {"passkey", "magic", "entry", "word", "record", "mix", "number_string", "kv_retrieval", "math_find"}


def test_every_name_has_one_origin() -> None:
    groups = [list_tasks(), list_generated(), list_ruler_tasks(), list_benchmark_tasks(), FORCED]
    names = [name for group in groups for name in group]
    assert len(set(names)) == len(names)
    assert {*names} >= {*SYNTHETIC, "code_run", "niah_single_1", "qa_2", "leval/coursera", "ruler/vt"}
    assert [{kind_of(name) for name in group} for group in groups] == [{kind} for kind in Kind]


def test_a_pass_key_is_a_template_and_an_original_file() -> None:
    assert kind_of("passkey") is Kind.TEMPLATE
    assert kind_of("infinitebench/passkey") is Kind.FILE


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("math_find", "infinitebench/math_find"),
        ("vt", "ruler/vt"),
        ("leval/tpo", "leval/tpo"),
        ("ruler/vt", "ruler/vt"),
    ],
)
def test_who_reads_and_scores(name: str, full: str) -> None:
    task = benchmark_task(name)
    assert f"{task.benchmark}/{task.name}" == full


def test_only_templates_have_keys_to_choose() -> None:
    assert [keys_of(name) for name in ("mix", "passkey", "vt", "leval/coursera")] == [16, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "unknown task 'nothing': choose one of city, .*mix.*; code_run, .*; niah_single_1, .*; or BENCH"),
        ("niah_singel_1", r"did you mean niah_single_1 or .*\?"),
        ("coursera", r"did you mean leval/coursera\?"),
        ("leval/courser", "leval has no task 'courser': choose one of codeU, coursera"),
        ("longbench/qa", "unknown benchmark 'longbench': choose one of infinitebench, leval, ruler"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(LocretError, match=message):
        kind_of(name)

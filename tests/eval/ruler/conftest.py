from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import locret
from locret.eval.ruler import Sources
from locret.eval.ruler.sources import word_list


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(Path(locret.__file__).parent / "builtin")


def paragraph(rng: random.Random, fact: str) -> str:
    words = rng.sample(word_list(), 40)
    return f"{' '.join(words[:20])}. {fact} {' '.join(words[20:])}."


def squad(articles: int = 6, paragraphs: int = 8) -> dict[str, Any]:
    """A data set in SQuAD v2's form: two questions a paragraph, of which one has no answer."""
    rng = random.Random("squad")
    data = []
    for article in range(articles):
        own = []
        for number in range(paragraphs):
            name = f"Bridge {article}-{number}"
            context = paragraph(rng, f"{name} was built in the year {1000 + 10 * article + number}.")
            year = str(1000 + 10 * article + number)
            answers = [{"text": year, "answer_start": context.index(year)}, {"text": f"the year {year}"}]
            asked = {"question": f"When was {name} built?", "id": name, "answers": answers, "is_impossible": False}
            unknown = {"question": f"Who fell off {name}?", "id": f"{name}x", "answers": [], "is_impossible": True}
            own.append({"context": context, "qas": [unknown, asked]})
        data.append({"title": f"Bridges {article}", "paragraphs": own})
    return {"version": "v2.0", "data": data}


def hotpot(questions: int = 8) -> list[dict[str, Any]]:
    """A data set in HotpotQA's form: four short paragraphs a question, of which two matter."""
    rng = random.Random("hotpot")
    return [
        {
            "_id": f"h{number}",
            "question": f"In which country does the maker of Boat {number} live?",
            "answer": f"Land{number}",
            "type": "bridge",
            "supporting_facts": [[f"Boat {number}", 0], [f"Maker {number}", 0]],
            "context": [
                [f"Boat {number}", [f"Boat {number} is by Maker {number}.", " It swims."]],
                [f"Maker {number}", [f"Maker {number} lives in Land{number}."]],
                [f"Chair {number}", [" ".join(rng.sample(word_list(), 12)) + "."]],
                ["Table", ["This paragraph comes with every question."]],
            ],
        }
        for number in range(questions)
    ]


@pytest.fixture(scope="session")
def question_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("questions")
    files = {"qa_1": folder / "squad.json", "qa_2": folder / "hotpot.json"}
    files["qa_1"].write_text(json.dumps(squad()))
    files["qa_2"].write_text(json.dumps(hotpot()))
    return files


@pytest.fixture(scope="session")
def sources_of(question_files: dict[str, Path]) -> dict[str, Sources]:
    """The sources that a task needs, by its name; none for most."""
    return {name: Sources(questions=str(path)) for name, path in question_files.items()}

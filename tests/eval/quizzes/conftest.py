from __future__ import annotations

from pathlib import Path

import pytest

from locret.eval.benchmarks.jsonl import write_jsonl


@pytest.fixture
def coursera(tmp_path: Path) -> Path:
    """Three documents with three, two and one questions, of which A is always the right answer."""
    records = [
        {
            "instructions": [f"Question {number}.{i}?" for i in range(questions)],
            "outputs": ["A"] * questions,
            "input": f"Document {number}. " + "Word after word. " * 40,
            "evaluation": "exam",
        }
        for number, questions in enumerate((3, 2, 1))
    ]
    write_jsonl(tmp_path / "coursera.jsonl", records)
    return tmp_path / "coursera.jsonl"

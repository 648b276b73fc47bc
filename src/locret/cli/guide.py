"""The document that `locret demo` has chat models read, and what is asked about it.

It is made up, so that no model knows the answers. The questions are those of a longer list that SmolLM2-135M answers
right with full attention (at 1,700 tokens it finds about every second fact); so they show what eviction loses, and not
how good the model is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GuideQuestion:
    """A question about the guide.

    Attributes:
        text: the question.
        answer: what a right answer says, in whatever case.
        fact: how the sentence that says so begins; it stands in the guide once.
    """

    text: str
    answer: str
    fact: str

    def right(self, reply: str) -> bool:
        """Whether a reply holds the answer."""
        return self.answer.casefold() in reply.casefold()


QUESTIONS = (
    GuideQuestion("What is the ferry called?", "Kittiwake", "The ferry is called"),
    GuideQuestion("Who is the captain of the ferry?", "Elias Thorne", "The captain of the ferry is called"),
    GuideQuestion("What is the inn called?", "Drowned Bell", "The inn is called"),
    GuideQuestion(
        "Who is the student who counts the birds?", "Clara Osei", "The student who counts the birds is called"
    ),
    GuideQuestion(
        "What is the cheese called that they make on the farm?", "Stormy Blue", "The cheese that they make is"
    ),
    GuideQuestion("What is the beach called?", "Silver Sands", "The beach is called"),
    GuideQuestion("Who is the guide for the marsh?", "Jonah Pike", "The guide for the marsh is called"),
    GuideQuestion("Who is the potter?", "Ingrid Sol", "The potter is called"),
)


def guide() -> str:
    """The guide's text."""
    return Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").strip()

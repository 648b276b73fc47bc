"""The facts that are hidden in a document for their answers to be forced: templates and names of their own.

They are no tasks of `--tasks`, and names come from the fifth of the package's words that training never sees, so heads
that were trained on the other templates have not met them.
"""

from __future__ import annotations

import random

from locret.errors import LocretError
from locret.eval.needles import Needle, Template, draw_number, fill, words

FACTS = 8  # a document

TEMPLATES = (
    Template("locker", "Which locker belongs to {key}?", "The locker of {key} has the number", "name", "digits4"),
    Template("sailing", "When did the ship {key} sail?", "The ship {key} sailed in the year", "name", "digits4"),
    Template("race", "Which horse won the race of {key}?", "The race of {key} was won by the horse", "name", "name"),
    Template("password", "What is the password of {key}?", "The password of {key} is", "name", "words"),
)


def draw_facts(count: int, rng: random.Random) -> list[Needle]:
    """So many facts, all templates in turn, no name or word twice.

    Raises:
        LocretError: there are not so many different names.
    """
    if not 1 <= count <= len(words("heldout")) // 4:
        raise LocretError(f"facts is {count}: give 1 to {len(words('heldout')) // 4}")
    drawn = iter(rng.sample(words("heldout"), 3 * count))
    facts = []
    for number in range(count):
        template = TEMPLATES[number % len(TEMPLATES)]
        key, first, second = (next(drawn) for _ in range(3))
        values = {"digits4": draw_number(4, rng), "name": first.capitalize(), "words": f"{first} {second}"}
        facts.append(fill(template, key.capitalize(), values[template.value]))
    return facts

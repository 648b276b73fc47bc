"""Facts that SmolLM2's heads are trained on: made up, in plain English, and asked for in the chat.

None of them is a template of `locret.eval.needles`, which the exhibit asks for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

PLACES = (
    "the old mill", "the harbour office", "the north gate", "the village school", "the brewery", "the observatory",
    "the lighthouse", "the town archive", "the east tower", "the post office", "the boathouse", "the bakery",
    "the museum", "the railway depot", "the orchard house", "the chapel", "the customs house", "the printing shop",
)  # fmt: skip
PEOPLE = (
    "Agnes Thorley", "Victor Ames", "Ines Calder", "Rupert Hale", "Marta Lindqvist", "Owen Pryce", "Clara Voss",
    "Desmond Akers", "Lucia Ferro", "Henry Batten", "Nadia Osman", "Piers Colman", "Tessa Rowe", "Ivo Marek",
    "Georgia Stamp", "Leon Fisk", "Priya Nair", "Walter Quill", "Sofia Brandt", "Amos Reed",
)  # fmt: skip
THINGS = (
    "copper kettle", "green umbrella", "brass telescope", "silver flute", "walnut cabinet", "glass marble",
    "red lantern", "leather satchel", "ivory comb", "tin soldier", "velvet curtain", "iron anchor", "paper kite",
    "stone lion",
)  # fmt: skip
TOWNS = (
    "Alderbrook", "Fenwick", "Harrowgate", "Lindale", "Mossley", "Norwick", "Penrose", "Quarrington", "Redmarsh",
    "Silverton", "Thornbury", "Upwood", "Westerham", "Yarmouth", "Zeal", "Kirkby",
)  # fmt: skip
COLOURS = ("amber", "crimson", "indigo", "ivory", "olive", "scarlet", "teal", "violet", "white", "yellow")
TRADES = ("baker", "carpenter", "doctor", "engraver", "fisherman", "gardener", "notary", "painter", "tailor", "weaver")
MONTHS = ("January", "March", "April", "May", "June", "August", "September", "October", "November", "December")


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a document, and a question about it with its answer."""

    sentence: str
    question: str
    answer: str


def draw_facts(count: int, rng: random.Random) -> list[Fact]:
    """`count` facts; no two have one question."""
    facts: dict[str, Fact] = {}
    while len(facts) < count:
        fact = _draw(rng)
        facts.setdefault(fact.question, fact)
    return list(facts.values())


def _draw(rng: random.Random) -> Fact:
    place, person, thing, town = (rng.choice(kind) for kind in (PLACES, PEOPLE, THINGS, TOWNS))
    trade, colour = rng.choice(TRADES), rng.choice(COLOURS)
    code, year, price = str(rng.randint(1000, 9999999)), str(rng.randint(1650, 1990)), str(rng.randint(3, 950))
    day = f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"
    asked = (
        (f"The key to {place} is number {code}.", f"What is the number of the key to {place}?", code),
        (f"The code that opens the door of {place} is {code}.", f"What code opens the door of {place}?", code),
        (f"{person} was born in {town} in {year}.", f"Where was {person} born?", town),
        (f"It was in {year} that {person} moved to {town}.", f"In which year did {person} move to {town}?", year),
        (f"{person} works as a {trade} in {town}.", f"What does {person} work as?", f"A {trade}"),
        (f"The {thing} was sold to {person} for {price} crowns.", f"Who bought the {thing}?", person),
        (f"The {thing} was sold for {price} crowns.", f"For how many crowns was the {thing} sold?", price),
        (f"{person} hid the {thing} in {place}.", f"Where did {person} hide the {thing}?", place.capitalize()),
        (f"The door of {place} is painted {colour}.", f"What colour is the door of {place}?", colour.capitalize()),
        (f"The telephone number of {person} is {code}.", f"What is the telephone number of {person}?", code),
        (f"The meeting at {place} was moved to {day}.", f"To which day was the meeting at {place} moved?", day),
        (f"The owner of {place} is called {person}.", f"What is the name of the owner of {place}?", person),
    )
    sentence, question, answer = rng.choice(asked)
    full = rng.random() < 0.5  # SmolLM2 likes to answer in a sentence
    return Fact(sentence, question, sentence if full else f"{answer}.")

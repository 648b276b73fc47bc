from __future__ import annotations

import random

import pytest

from locret.eval.ruler.sizing import fit


@pytest.mark.parametrize("seed", range(40))
def test_the_search_finds_what_trying_all_finds(seed: int) -> None:
    rng = random.Random(seed)
    least, most = rng.randrange(3), rng.randrange(3, 400)
    sizes = [rng.randrange(50)]
    for _ in range(most):
        sizes.append(sizes[-1] + rng.choice((0, 1, 2, 5, rng.randrange(40))))
    for room in (0, sizes[least], rng.randrange(sizes[-1] + 1), sizes[-1], sizes[-1] + 10):
        asked: list[int] = []

        def tokens(units: int, asked: list[int] = asked) -> int:
            asked.append(units)
            return sizes[units]

        fitting = [units for units in range(least, most + 1) if sizes[units] <= room]
        expected = fitting[-1] if fitting else None
        assert fit(tokens, room, least, most, guess=rng.randrange(2 * most)) == expected
        assert all(least <= units <= most for units in asked)


@pytest.mark.parametrize("guess", [0, 5000, 5500, 10**6])
def test_even_texts_take_few_counts(guess: int) -> None:
    asked = []

    def tokens(units: int) -> int:
        asked.append(units)
        return 90 + 24 * units + units % 3

    assert fit(tokens, 131072, 1, 40000, guess) == 5457
    assert len(asked) <= 8


def test_nothing_fits() -> None:
    assert fit(lambda units: 100 + units, 100, 1, 50) is None
    assert fit(lambda units: 100 + units, 101, 1, 50) == 1

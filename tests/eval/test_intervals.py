from __future__ import annotations

import numpy as np
import pytest

from locret.eval.benchmarks.leval_scores import geometric_mean, mean
from locret.eval.intervals import bootstrap, wilson

DRAW = np.random.default_rng(3)


def naive(columns: np.ndarray, documents: list[int], together: object, resamples: int) -> tuple[float, float]:
    """Documents drawn one by one, their lines collected, the score worked out anew."""
    rng = np.random.default_rng(17)
    numbers = sorted(set(documents))
    scores = []
    for _ in range(resamples):
        drawn = rng.choice(numbers, len(numbers))
        lines = np.concatenate([columns[np.array(documents) == number] for number in drawn])
        scores.append(together(np.nanmean(lines, axis=0)))  # type: ignore[operator]
    low, high = np.percentile(scores, (2.5, 97.5))
    return float(low), float(high)


def test_wilson_interval_has_known_values() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.0, 10)[0] == 0


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("per_document", [1, 5])
def test_the_same_as_drawing_documents_one_by_one(parts: int, per_document: int) -> None:
    columns = 100 * DRAW.random((60, parts))
    documents = [number // per_document for number in range(60)]
    together = mean if parts == 1 else geometric_mean
    fast = bootstrap(columns, documents, together, resamples=4000)
    assert fast == pytest.approx(naive(columns, documents, together, 4000), abs=1.0)
    assert fast == bootstrap(columns, documents, together, resamples=4000)
    assert fast != bootstrap(columns, documents, together, resamples=4000, seed=1)


def test_parts_that_take_turns() -> None:
    columns = np.full((30, 3), np.nan)
    columns[np.arange(30), np.arange(30) % 3] = 100 * DRAW.random(30)
    documents = [number // 3 for number in range(30)]
    fast = bootstrap(columns, documents, mean, resamples=4000)
    assert fast == pytest.approx(naive(columns, documents, mean, 4000), abs=1.5)


def test_questions_of_one_document_are_no_independent_samples() -> None:
    columns = np.repeat(100.0 * (np.arange(20) % 2), 10)[:, None]  # a document is all right or all wrong
    low, high = bootstrap(columns, [number // 10 for number in range(200)], mean)
    alone_low, alone_high = bootstrap(columns, list(range(200)), mean)
    assert high - low > 2.5 * (alone_high - alone_low)


def test_where_drawing_says_nothing_it_is_wilsons() -> None:
    for score, documents in ((100.0, 20), (0.0, 20), (100.0, 1), (50.0, 4)):
        columns = np.full((20, 1), score)
        low, high = bootstrap(columns, [number % documents for number in range(20)], mean)
        assert (low / 100, high / 100) == pytest.approx(wilson(score / 100, documents))
    mixed = 100.0 * (np.arange(20) % 2)[:, None]
    one_document = bootstrap(mixed, [0] * 20, mean)
    assert one_document == pytest.approx([100 * end for end in wilson(0.5, 1)])

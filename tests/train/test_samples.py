from __future__ import annotations

import pytest

from locret.errors import LocretError
from locret.train.contents import Encoded, Tokens
from locret.train.records import Record
from locret.train.samples import SampleMaker, SampleOrder, shorten


def test_short_samples_stay_whole() -> None:
    encoded = Encoded(list(range(10)), [(6, 8)], 5)
    assert shorten(encoded, 10) is encoded


def test_the_middle_of_the_context_is_cut() -> None:
    cut = shorten(Encoded(list(range(100)), [(92, 94), (97, 100)], 90), 20)
    assert cut.ids == [*range(5), *range(85, 100)]
    assert cut.spans == [(12, 14), (17, 20)]
    assert cut.context == 10
    assert [cut.ids[start] for start, _ in cut.spans] == [92, 97]


def test_answers_that_are_too_long_lose_their_end() -> None:
    cut = shorten(Encoded(list(range(100)), [(20, 60), (70, 100)], 20), 30)
    assert cut.ids == [*range(8), *range(13, 20), *range(20, 35)]
    assert cut.spans == [(15, 30)]
    short_context = shorten(Encoded(list(range(100)), [(4, 100)], 4), 30)
    assert short_context.ids == list(range(30))


@pytest.mark.parametrize("length", range(4, 60))
def test_every_cut_has_the_right_length(length: int) -> None:
    cut = shorten(Encoded(list(range(60)), [(41, 44), (50, 58)], 37), length)
    assert len(cut.ids) == length
    assert all(cut.ids[start] in (41, 50) for start, _ in cut.spans)


def test_a_question_that_leaves_no_room_for_answers() -> None:
    record = Record("file:1", Tokens(tuple(range(60)), ((50, 51),)))
    assert SampleMaker(None, 60, 97)(record).prompt_length == 50
    with pytest.raises(LocretError, match=r"file:1: .*no prompt or no answer left"):
        SampleMaker(None, 8, 97)(Record("file:1", _LongQuestion()))


class _LongQuestion:
    """A short context, a long question."""

    def encode(self, tokenizer: object) -> Encoded:
        return Encoded(list(range(60)), [(50, 51)], 3)


def test_every_epoch_takes_every_record_once_and_differs() -> None:
    order = SampleOrder(size=10, batch_size=4, seed=3)
    taken = [index for step in range(5) for index in order.batch(step)]
    assert sorted(taken[:10]) == sorted(taken[10:]) == list(range(10))
    assert taken[:10] != taken[10:]
    assert SampleOrder(10, 4, 4).batch(0) != order.batch(0) or SampleOrder(10, 4, 4).batch(1) != order.batch(1)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_share_the_same_batch(processes: int) -> None:
    order = SampleOrder(size=10, batch_size=4, seed=3)
    for step in range(6):
        shares = [order.share(step, process, processes) for process in range(processes)]
        assert sorted(index for share in shares for index in share) == sorted(order.batch(step))

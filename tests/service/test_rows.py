"""What rows are fed, as requests join, move, step and leave."""

from __future__ import annotations

from dragoman_service.engine.rows import RowTable
from dragoman_service.engine.search.base import Search
from dragoman_service.engine.search.factory import make_search
from support.builders import make_request
from support.fake_runner import BEGIN, END


def search_that_feeds(*tokens: int) -> Search:
    search = make_search(make_request(beam_size=max(1, len(tokens))), begin_id=BEGIN, end_id=END)
    search.next_tokens = list(tokens)
    return search


def columns(table: RowTable) -> list[tuple[int, int, int]]:
    return list(zip(table.tokens(), table.positions, table.source_lengths, strict=True))


def test_rows_are_added_and_taken_over() -> None:
    table = RowTable()
    table.assign([0, 1], search_that_feeds(7, 8), 5)
    table.advance()
    table.assign([2], search_that_feeds(9), 6)
    assert columns(table) == [(7, 1, 5), (8, 1, 5), (9, 0, 6)]
    table.advance()
    table.assign([1, 3], search_that_feeds(10, 11), 4)
    assert columns(table) == [(7, 2, 5), (10, 0, 4), (9, 1, 6), (11, 0, 4)]


def test_a_row_keeps_its_number_in_the_request_when_it_moves() -> None:
    table = RowTable()
    table.assign([0], search_that_feeds(7), 5)
    table.advance()
    table.assign([1, 2], search_that_feeds(8, 9), 6)
    table.move(2, 0)
    table.truncate(2)
    assert columns(table) == [(9, 0, 6), (8, 0, 6)]


def test_what_a_search_feeds_next_shows_at_once() -> None:
    table = RowTable()
    search = search_that_feeds(7, 8)
    table.assign([0, 1], search, 5)
    search.next_tokens = [10, 11]
    assert table.tokens() == [10, 11]

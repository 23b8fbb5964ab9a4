"""Errors of dragoman.v1 in the words of another interface."""

from __future__ import annotations

import pytest

from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.interfaces.fields import renamed_fields
from dragoman_service.interfaces.names import INTERFACES, check_interfaces

NAMES = {"texts": "contents", "texts[0]": "first", "options.max_length": "length"}


@pytest.mark.parametrize(
    ("field", "renamed"),
    [
        ("texts", "contents"), ("texts[3]", "contents[3]"), ("texts[0]", "first"), ("texts[0].x", "first.x"),
        ("texts_of", "texts_of"), ("options.max_length", "length"), ("options.max_lengths", "options.max_lengths"),
        ("options", "options"), ("request", "request"),
    ],
)  # fmt: skip
def test_the_longest_beginning_of_a_path_is_renamed(field: str, renamed: str) -> None:
    with pytest.raises(InvalidInput) as raised, renamed_fields(NAMES):
        raise InvalidInput(field, "x", "y")
    assert raised.value.field == renamed
    assert str(raised.value) == f"{renamed}: got 'x'; allowed: y"


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(NotFound, match="texts: no"), renamed_fields(NAMES):
        raise NotFound("texts: no")


@pytest.mark.parametrize("names", [("google", "google"), ("nothing",), ("",)])
def test_an_interface_that_there_is_not_is_refused(names: tuple[str, ...]) -> None:
    check_interfaces(INTERFACES)
    check_interfaces(())
    with pytest.raises(InvalidInput, match="interfaces: got"):
        check_interfaces(names)

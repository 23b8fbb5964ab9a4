"""Errors of `dragoman.v1` in the words of another interface: one table of fields for each of its requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dragoman_service.errors import InvalidInput


@contextmanager
def renamed_fields(names: Mapping[str, str]) -> Iterator[None]:
    """Errors inside name the fields of the caller's request.

    Args:
        names: Path of a field in the request of `dragoman.v1`, or the beginning of one -> what the caller calls it. The
            longest beginning counts. Other fields keep their names.
    """
    try:
        yield
    except InvalidInput as error:
        fitting = [name for name in names if _begins(error.field, name)]
        if fitting:
            longest = max(fitting, key=len)
            error.rename(names[longest] + error.field[len(longest) :])
        raise


def _begins(path: str, name: str) -> bool:
    return path.startswith(name) and path[len(name) : len(name) + 1] in ("", ".", "[")

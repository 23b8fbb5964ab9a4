"""The fields of a checkpoint's configuration. Each is read, known to have no effect, or refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from dragoman_service.errors import InvalidInput

T = TypeVar("T")
LARGEST = 2**31 - 1
"""Largest number that is read: ids and sizes are 32-bit integers in the graphs."""


def listed(text: str) -> tuple[str, ...]:
    """The words of a text: a long list of names, short to write."""
    return tuple(text.split())


class Switches:
    """Reads fields one by one, and remembers which have been read."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        """`where` is the name of the file, for messages."""
        self._where, self._values, self._read = where, values, set[str]()

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field as it stands, or `default` if it is missing or null."""
        self._read.add(name)
        value = self._values.get(name)
        return default if value is None else value

    def is_read(self, name: str) -> bool:
        """Whether a field has been read."""
        return name in self._read

    def integer(self, name: str, least: int = 1, default: int | None = None, most: int = LARGEST) -> int:
        """A whole number from `least` to `most`. Raises InvalidInput if it is none, or missing without a default."""
        value = self.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            limit = f", {least} or more" if most == LARGEST else f" from {least} to {most}"
            raise self.refusal(name, f"a whole number{limit}")
        return value

    def number(self, name: str, default: float, least: float = -LARGEST) -> float:
        """A number. Raises InvalidInput if it is none, infinite, less than `least`, or of no sensible size."""
        value = self.get(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= LARGEST:
            raise self.refusal(name, "a finite number" if least == -LARGEST else f"a finite number, {least:g} or more")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false. Raises InvalidInput if it is neither, or missing without a default."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def text(self, name: str, default: str) -> str:
        """A text. Raises InvalidInput if it is none."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.refusal(name, "a text")
        return value

    def choice(self, name: str, choices: Mapping[str, T], default: str | None = None) -> T:
        """What a name stands for. Raises InvalidInput if it is none of `choices`."""
        value = self.get(name, default)
        if not isinstance(value, str) or value not in choices:
            raise self.refusal(name, " or ".join(map(repr, choices)))
        return choices[value]

    def fixed(self, **values: Any) -> None:
        """Fields that may have one value alone, or be missing. Raises InvalidInput for another value."""
        for name, value in values.items():
            self.among(name, value)

    def among(self, name: str, *allowed: Any) -> Any:
        """The value of a field that may have some values alone, or be missing. Raises InvalidInput for another one."""
        value = self.get(name, allowed[0])
        if not any(value == it and type(value) is type(it) for it in allowed):
            raise self.refusal(name, " or ".join(map(repr, allowed)))
        return value

    def refusal(self, name: str, allowed: str) -> InvalidInput:
        """The error for the value of a field."""
        return InvalidInput(f"{self._where}: {name}", self._values.get(name), allowed)

    def finish(self, ignored: Iterable[str]) -> None:
        """Check that every field has been read, is one of `ignored`, or begins with an underscore.

        Raises:
            InvalidInput: one is none of these.
        """
        for name in sorted(map(str, self._values.keys() - self._read - set(ignored))):
            if not name.startswith("_"):
                raise self.refusal(name, "no such field: it is unknown whether the model depends on it")

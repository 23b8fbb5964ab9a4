"""A document that is to be translated, and how far it is."""

from __future__ import annotations

import enum
import json
import secrets
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

from dragoman_service.text.markup.documents import format_of_name
from dragoman_service.text.markup.files import FileFormat

MOST_PROBLEMS = 100
"""Most problems that a job tells."""
_LONGEST_NAME = 200


class State(enum.Enum):
    """How far a job is."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.DONE, State.FAILED)


@dataclass(frozen=True, slots=True)
class Problem:
    """A text that stays as it was, or whose translation is incomplete."""

    place: str
    """Where it stands in the document, such as the number of a line."""
    message: str


@dataclass(slots=True)
class Job:
    """A document, and how far its translation is."""

    owner: str
    """The client that sent it."""
    name: str
    """Name of the file, without folders and control characters."""
    source_language: str
    """Empty until it is detected."""
    target_language: str
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Names the job; nobody can guess it."""
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    """A second secret, which clients of DeepL show."""
    created: float = field(default_factory=time.time)
    """Seconds since the epoch, as is the next one."""
    expires: float = 0.0
    state: State = State.QUEUED
    texts: int = 0
    """Number of texts in the document, once they are known."""
    texts_done: int = 0
    characters: int = 0
    """Characters of the texts."""
    problems: list[Problem] = field(default_factory=list)
    """The first of them."""
    num_problems: int = 0
    error: str = ""
    """Why it has failed."""

    @property
    def format(self) -> FileFormat:
        """The format of the file."""
        found = format_of_name(self.name)
        assert found is not None
        return found

    @property
    def suffix(self) -> str:
        """The suffix of the name, such as `.docx`."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def translated_name(self) -> str:
        """Name of the translated file."""
        path = PurePosixPath(self.name)
        return f"{path.stem}.{safe_name(self.target_language or 'translated')}{path.suffix}"

    def add_problem(self, problem: Problem) -> None:
        """Count a problem, and keep it if it is one of the first."""
        self.num_problems += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def to_json(self) -> str:
        """As it is kept in a file."""
        return json.dumps({**asdict(self), "state": self.state.value})

    @classmethod
    def of_json(cls, text: str) -> Job:
        """Read what `to_json` has written. Raises ValueError."""
        try:
            found: dict[str, Any] = json.loads(text)
            known = {it.name: found[it.name] for it in fields(cls)}
            problems = [Problem(**it) for it in found["problems"]]
            return cls(**{**known, "state": State(found["state"]), "problems": problems})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no job: {error!r}") from None


def safe_name(name: str) -> str:
    """The name of a file that a caller has sent, as it can be shown and written into headers."""
    last = name.replace("\\", "/").rpartition("/")[2]
    path = PurePosixPath("".join(it if it.isprintable() else "_" for it in last).strip(". ") or "document")
    return f"{path.stem[: _LONGEST_NAME - len(path.suffix)]}{path.suffix}"

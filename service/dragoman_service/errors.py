"""Errors of the service in the domain's terms. `server.status` maps them to gRPC status codes."""

from __future__ import annotations

_LONGEST_VALUE = 100
"""Most characters of a value in a message: callers send megabytes."""
_LONGEST_FIELD = 1_000
"""Most characters of the name of a field, which may be a path."""
_MOST_PROBLEMS = 50
_LONGEST_PROBLEM = 1_000
"""Most problems in a message, and characters of each: a bad file may have any number of any length."""


def visible(text: str, most: int = _LONGEST_VALUE) -> str:
    """`text` with escapes for what is not printable, such as line ends, and cut to `most` characters.

    Texts of callers go through this on their way to logs and messages: they could forge lines, or control terminals.
    """
    escaped = "".join(it if it.isprintable() else repr(it)[1:-1] for it in text[:most])
    return escaped if max(len(text), len(escaped)) <= most else f"{escaped[:most]}... ({len(text)} characters)"


def _quoted(value: object) -> str:
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST_VALUE:
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{value[:_LONGEST_VALUE]!r}... ({len(value)} {unit})"
    # A short string is shown whole, even if its escapes make it longer.
    return repr(value) if isinstance(value, (str, bytes)) else visible(repr(value))


class DragomanError(Exception):
    """Base of all errors that a caller is meant to see."""

    reason = "error"
    """Stable, lower-case name: the `reason` label in metrics and in gRPC error details."""
    after_work = False
    """Whether sentences of the call had been translated before. The call counts in quotas then."""

    def __reduce__(self) -> tuple[object, ...]:
        """Errors are pickled as they are, between processes: not made again from the arguments of their class."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[DragomanError], args: tuple[object, ...], state: dict[str, object]) -> DragomanError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInput(DragomanError):
    """A value that is not allowed. The message names the field, the value and the allowed values."""

    reason = "invalid_input"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(f"{visible(field, _LONGEST_FIELD)}: got {_quoted(value)}; allowed: {allowed}")
        self.field = field

    @classmethod
    def because_of(cls, field: str, error: DragomanError) -> InvalidInput:
        """An error of a field with the message of another error."""
        made = cls(field, "", "")
        made.args = (f"{field}: {error}",)
        made.after_work = error.after_work
        return made

    def rename(self, field: str) -> None:
        """Name the field otherwise, as with its path in the caller's message."""
        rest = str(self).removeprefix(visible(self.field, _LONGEST_FIELD))
        self.args = (visible(field, _LONGEST_FIELD) + rest,)
        self.field = field


class TooLarge(InvalidInput):
    """A request with too many bytes."""

    reason = "too_large"


class TooSlow(InvalidInput):
    """A request that did not arrive in time."""

    reason = "too_slow"


def at_least(name: str, value: int, least: int) -> None:
    """Raise InvalidInput if the setting `name` is below `least`."""
    if value < least:
        raise InvalidInput(name, value, f"{least} or more")


class NotFound(DragomanError):
    """An unknown model or language pair. The message lists the available ones."""

    reason = "not_found"


class NoLanguagePair(NotFound):
    """No model in service translates these languages. The message lists what they translate."""


class AlreadyExists(DragomanError):
    """What is to be made is there already."""

    reason = "already_exists"


class Unserved(DragomanError):
    """A method of somebody else's interface that this server does not have. The message says what it has instead."""

    reason = "unimplemented"


class Unauthenticated(DragomanError):
    """A call without a valid token, where one is needed. The message never has the token."""

    reason = "unauthenticated"


class Forbidden(DragomanError):
    """A call that its token does not allow."""

    reason = "forbidden"


class Overloaded(DragomanError):
    """The queue is full. The caller may try again after `retry_after` seconds."""

    reason = "overloaded"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(Overloaded):
    """The caller has used up a quota of its token, whatever the load of the server."""

    reason = "quota_exceeded"


class DeadlineExceeded(DragomanError):
    """The caller's deadline passed before the translation was done."""

    reason = "deadline_exceeded"


class DeadlineUnreachable(DeadlineExceeded):
    """The translation was refused before it began, because it could not be done before the caller's deadline."""

    reason = "deadline_unreachable"


class Cancelled(DragomanError):
    """The caller cancelled the call."""

    reason = "cancelled"


class ShuttingDown(DragomanError):
    """The server is shutting down and accepts no new work."""

    reason = "shutting_down"


class Conflict(DragomanError):
    """A request that the present state does not allow. The message says what has to be done first."""

    reason = "conflict"


class EngineFailure(DragomanError):
    """A fault of the server: the engine could not run a step."""

    reason = "engine_failure"


class EngineLost(EngineFailure):
    """The process of the engine has ended. A new one is started; the same call can be made again."""

    reason = "engine_lost"


class BundleError(DragomanError):
    """A model bundle that cannot be served; the message lists the problems found, `problems` has all of them."""

    reason = "bundle_error"

    def __init__(self, path: object, problems: list[str]) -> None:
        shown = [visible(problem, _LONGEST_PROBLEM) for problem in problems[:_MOST_PROBLEMS]]
        if len(problems) > _MOST_PROBLEMS:
            shown.append(f"and {len(problems) - _MOST_PROBLEMS} more problems")
        super().__init__(f"bundle {visible(str(path), _LONGEST_FIELD)}: " + "; ".join(shown))
        self.problems = problems


class RepositoryError(DragomanError):
    """A model repository, or a file of it, cannot be read or written."""

    reason = "repository_error"

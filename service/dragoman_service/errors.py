"""Errors of the service in the domain's terms. `server.status` maps them to gRPC status codes."""

from __future__ import annotations


class DragomanError(Exception):
    """Base of all errors that a caller is meant to see."""

    reason = "error"
    """Stable, lower-case name: the `reason` label in metrics and in gRPC error details."""

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
        shown = repr(value)
        super().__init__(f"{field}: got {shown if len(shown) <= 80 else shown[:77] + '...'}; allowed: {allowed}")
        self.field = field


def at_least(name: str, value: int, least: int) -> None:
    """Raise InvalidInput if the setting `name` is below `least`."""
    if value < least:
        raise InvalidInput(name, value, f"{least} or more")


class NotFound(DragomanError):
    """An unknown model or language pair. The message lists the available ones."""

    reason = "not_found"


class Overloaded(DragomanError):
    """The queue is full. The caller may try again after `retry_after` seconds."""

    reason = "overloaded"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


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


class BundleError(DragomanError):
    """A model bundle that cannot be served; the message lists every problem found."""

    reason = "bundle_error"

    def __init__(self, path: object, problems: list[str]) -> None:
        super().__init__(f"bundle {path}: " + "; ".join(problems))
        self.problems = problems


class RepositoryError(DragomanError):
    """A model repository, or a file of it, cannot be read or written."""

    reason = "repository_error"

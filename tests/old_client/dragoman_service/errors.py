"""Everything that can go wrong with a translation, in the domain's terms; the gRPC edge maps these to status codes."""

from __future__ import annotations


class DragomanError(Exception):
    """Base of all errors that a caller is meant to see."""

    reason = "error"
    """Stable, lower-case name: the `reason` label in metrics and in gRPC error details."""


class InvalidInput(DragomanError):
    """A value that is not allowed: names the field, what came, and what is allowed."""

    reason = "invalid_input"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        shown = repr(value)
        super().__init__(f"{field}: got {shown if len(shown) <= 80 else shown[:77] + '...'}; allowed: {allowed}")
        self.field = field


class NotFound(DragomanError):
    """An unknown model or language pair; the message lists what there is."""

    reason = "not_found"


class Overloaded(DragomanError):
    """The queue is full; worth trying again after `retry_after` seconds."""

    reason = "overloaded"

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(DragomanError):
    """The caller's deadline passed before the translation was done."""

    reason = "deadline_exceeded"


class DeadlineUnreachable(DeadlineExceeded):
    """The translation could not be done before the caller's deadline, and was not begun."""

    reason = "deadline_unreachable"


class Cancelled(DragomanError):
    """The caller gave up."""

    reason = "cancelled"


class ShuttingDown(DragomanError):
    """The server drains and takes no new work."""

    reason = "shutting_down"


class Conflict(DragomanError):
    """What is asked for contradicts what is there; the message says what has to be done first."""

    reason = "conflict"


class EngineFailure(DragomanError):
    """Our fault: the engine could not run a step."""

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

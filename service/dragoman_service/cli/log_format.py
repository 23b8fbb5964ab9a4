"""The format of the server's log."""

from __future__ import annotations

import logging
from typing import Any

from dragoman_service.errors import visible

_LONGEST_LINE = 4_000
_MOST_LINES = 200
"""Most lines of a traceback, of which the last ones tell most."""


class LogFormatter(logging.Formatter):
    """Formats a record as one line, and its traceback as indented lines.

    Errors of libraries may have texts of callers in them: nothing in them can look like another record, or control the
    terminal that shows the log.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of the record."""
        return visible(super().formatMessage(record), _LONGEST_LINE)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback."""
        lines = super().formatException(ei).split("\n")
        left_out = len(lines) - _MOST_LINES
        if left_out > 0:
            lines = [*lines[: _MOST_LINES // 2], f"... ({left_out} lines)", *lines[-_MOST_LINES // 2 :]]
        return "\n".join(f"    {visible(line, _LONGEST_LINE)}" for line in lines)

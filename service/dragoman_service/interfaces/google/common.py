"""What several methods have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput, NoLanguagePair
from dragoman_service.interfaces.fields import renamed_fields

_FORMATS = {"": v1.TEXT_FORMAT_HTML, "text/html": v1.TEXT_FORMAT_HTML, "text/plain": v1.TEXT_FORMAT_PLAIN}
_MOST_LABELS = 64
# Letters of scripts without case are allowed too.
_LABEL_KEY = re.compile(r"[^\W\d_][\w-]{0,62}")
_LABEL_VALUE = re.compile(r"[\w-]{0,63}")


@contextmanager
def errors_of(fields: Mapping[str, str], languages: str) -> Iterator[None]:
    """Errors of `dragoman.v1` inside become those of Google: a language that is not served is an invalid argument.

    Args:
        fields: See `renamed_fields`.
        languages: The field that is named for a language pair that there is not.
    """
    try:
        with renamed_fields(fields):
            yield
    except NoLanguagePair as error:
        raise InvalidInput.because_of(languages, error) from None


def text_format(mime_type: str) -> v1.TextFormat:
    """The format of texts of a MIME type; HTML if there is none. Raises InvalidInput."""
    if mime_type not in _FORMATS:
        raise InvalidInput("mime_type", mime_type, "text/html (also if it is empty) or text/plain")
    return _FORMATS[mime_type]


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise InvalidInput for labels that Google would not take."""
    if len(labels) > _MOST_LABELS:
        raise InvalidInput("labels", f"{len(labels)} of them", f"at most {_MOST_LABELS}")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or key != key.lower():
            allowed = "keys of 1 to 63 lower-case letters, digits, - and _, a letter first"
            raise InvalidInput("labels", key, allowed)
        if not _LABEL_VALUE.fullmatch(value) or value != value.lower():
            raise InvalidInput("labels", value, "values of at most 63 lower-case letters, digits, - and _")
